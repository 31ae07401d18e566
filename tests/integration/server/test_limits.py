"""Limits as operators set them: what is over is refused in a way that it comes back later, and is counted."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from ct_ops_server.config.schema import Settings
from ct_ops_server.edge.limits import Limits, limits_of
from ct_ops_server.edge.listener import connection_ceiling
from real_server import RealServer, real_server, settings_for, tighter
from wire_client import Host, next_reply, reason_of


async def refused(server: RealServer, host: Host, token: str) -> tuple[grpc.StatusCode, str, int]:
    """Register in vain; return status, reason and the milliseconds after which it may be tried again."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.wire.register(host, token)
    metadata = dict(refusal.value.trailing_metadata() or ())
    return refusal.value.code(), reason_of(refusal.value), int(metadata.get("ct-ops-retry-after-ms", "-1"))


async def counted(server: RealServer, beginning: str) -> float:
    text = (await server.get("/metrics")).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(beginning))


async def test_an_address_registers_so_often_a_minute_and_hears_when_to_come_back(tmp_path: Path) -> None:
    """What is over costs the token nothing; the refusal is none of those that make agents forget who they are."""
    limits = tighter(registrations_per_address=2)
    async with real_server(settings_for(tmp_path / "server"), limits) as server:
        token = await server.token(max_uses=3)
        for number in range(2):
            await server.wire.register(Host(f"web-{number}"), token)
        status, reason, retry_ms = await refused(server, Host("web-2"), token)
        (shown,) = (await server.ask("GET", "/v1/tokens"))[:1]
        seen = await counted(
            server, 'ct_ops_rpc_refusals_total{method="Register",reason="registrations_of_address"'
        )

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "registrations_of_address") == (status, reason)
    assert 0 < retry_ms <= 60_000
    assert 2 == shown["uses"]
    assert 1 == seen


async def test_a_token_is_used_so_often_a_minute_and_others_are_not_held_up(tmp_path: Path) -> None:
    """Counted by the token, whoever shows it."""
    limits = tighter(registrations_per_token=1)
    async with real_server(settings_for(tmp_path / "server"), limits) as server:
        busy, other = await server.token(), await server.token()
        await server.wire.register(Host("web-1"), busy)
        status, reason, _ = await refused(server, Host("web-2"), busy)
        admitted = await server.wire.register(Host("web-3"), other)

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "registrations_of_token") == (status, reason)
    assert "active" == admitted.status


async def test_so_many_agents_of_a_token_wait_for_approval(settings: Settings) -> None:
    """On both databases; the next one hears what to do."""
    async with real_server(replace(settings, pending_per_token=1)) as server:
        token = await server.token(auto_approve=False)
        await server.wire.register(Host("web-1"), token)
        refusal = await refused(server, Host("web-2"), token)

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_pending", 60_000) == refusal


async def test_attack_a_flood_of_connections_is_slowed_down_and_agents_stay(tmp_path: Path) -> None:
    """More than so many a second are closed before TLS, and counted; who is connected notices nothing."""
    limits = tighter(connections_per_second_per_address=5)
    async with real_server(settings_for(tmp_path / "server"), limits) as server:
        host = await server.enrolled("web-1")
        async with server.wire.connect(host) as stub:
            stream = stub.Heartbeat()
            await stream.write(host.first_frame())
            await next_reply(stream)
            opened = [await asyncio.open_connection("127.0.0.1", server.wire.port) for _ in range(40)]
            await stream.write(host.first_frame())
            reply = await next_reply(stream)
            for _, writer in opened:
                writer.close()
        beginning = (
            'ct_ops_connections_refused_total{reason="too many connections a second from this address"'
        )
        seen = await counted(server, beginning)

    assert reply.ok
    assert seen >= 20  # forty within a few seconds, five of each


def test_settings_become_limits(tmp_path: Path) -> None:
    """Each of them, in the unit that operators use."""
    settings = replace(
        settings_for(tmp_path), max_message_kib=64, frames_per_second=2, max_streams=3, max_connections=7,
        registrations_per_token=11,
    )  # fmt: skip
    limits = limits_of(settings)

    assert (65_536, 2, 4, 3, 7, 11) == (
        limits.agent_message_bytes, limits.frames_per_second, limits.frames_burst, limits.agent_streams,
        limits.connections, limits.registrations_per_token,
    )  # fmt: skip


def test_the_defaults_of_the_settings_are_those_that_are_measured(tmp_path: Path) -> None:
    """An operator who sets nothing gets what the benches ran with."""
    usual, set_ = Limits(), limits_of(settings_for(tmp_path))

    assert usual == set_


def test_connections_are_at_most_what_the_descriptors_allow() -> None:
    """Three of each connection, and a tenth is left for everything else; a wish below that counts."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = int(soft * 0.9) // 3

    assert (allowed, allowed, 5) == tuple(
        connection_ceiling(Limits(connections=wished)) for wished in (None, 10**9, 5)
    )


RAISED = """
import resource
from ct_ops_server.edge.listener import raise_descriptor_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
raise_descriptor_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


def test_a_server_takes_all_descriptors_that_it_may_have() -> None:
    """A shell's usual soft limit of 1,024 would make room for 307 agents."""
    done = subprocess.run([sys.executable, "-c", RAISED], capture_output=True, text=True, check=True)

    assert "True" == done.stdout.strip()


async def test_a_wish_for_more_than_there_is_room_for_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to do about it; the server runs all the same."""
    settings = replace(settings_for(tmp_path / "server"), max_connections=1_000_000)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard < 3_000_000
    async with real_server(settings, limits_of(settings)):
        said = [
            record.getMessage()
            for record in caplog.records
            if "INGEST_MAX_CONNECTIONS" in record.getMessage()
        ]

    assert 1 == len(said)
    assert "LimitNOFILE" in said[0]

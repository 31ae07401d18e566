"""Results of checks over real TLS, on both databases: in numbered batches, and as existing agents send them."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.fleet.check_delivery import NO_CHECKS
from real_server import RealServer, real_server, settings_for
from wire_client import HeartbeatStream, Host, next_reply

OUTBOX = bytes(range(16))
HELLO = wire.HeartbeatRequest(
    hello=wire.Hello(features=["delivery", "definitions"], interval_s=30, outbox_id=OUTBOX)
)


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


@asynccontextmanager
async def connected(
    server: RealServer, host: Host, first: wire.HeartbeatRequest | None = None
) -> AsyncIterator[HeartbeatStream]:
    """Open a stream and read the reply to its first frame."""
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame(first))
        await next_reply(stream)
        yield stream
        stream.cancel()


async def define(server: RealServer, host: Host, **changes: Any) -> str:
    body = {"actor": "ada", "type": "port", "config": {"host": "127.0.0.1", "port": 22}, **changes}
    return str((await server.ask("POST", f"/v1/agents/{host.agent_id}/checks", body))["id"])


async def results(server: RealServer, selector: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await server.ask("GET", f"/v1/check-results/{selector}")
    return found


async def deliver(stream: HeartbeatStream, host: Host, seq: int, *found: wire.CheckResult) -> dict[int, str]:
    """Send results in a batch; return what was refused, by index."""
    body = wire.BatchBody(results=[wire.ResultItem(check_result=each) for each in found])
    batch = wire.Batch(outbox_id=OUTBOX, seq=seq, payload=body.SerializeToString())
    await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, batch=batch))
    while not (reply := await next_reply(stream)).HasField("batch_ack"):
        pass
    assert wire.BatchAck.STORED == reply.batch_ack.verdict
    return {refused.index: refused.reason for refused in reply.batch_ack.refused}


async def test_results_in_a_batch_are_stored_and_shown(server: RealServer) -> None:
    """With the state of their check, and counted by status."""
    host = await server.enrolled("web-1")
    check_id = await define(server, host, name="ssh")
    at = now_ms()
    async with connected(server, host, HELLO) as stream:
        refused = await deliver(
            stream,
            host,
            1,
            wire.CheckResult(
                check_id=check_id, status="pass", output="reachable", duration_ms=3, ran_at_ms=at - 2
            ),
            wire.CheckResult(
                check_id=check_id, status="fail", output="refused", duration_ms=4, ran_at_ms=at - 1
            ),
        )
    found = await results(server, "web-1")
    shown = await server.ask("GET", f"/v1/checks/{check_id}")
    metrics = (await server.get("/metrics")).text

    assert {} == refused
    assert [("fail", "refused", 4), ("pass", "reachable", 3)] == [
        (each["status"], each["output"], each["duration_ms"]) for each in found
    ]
    assert ("ssh", "fail", "refused") == (shown["name"], shown["status"], shown["output"])
    assert shown["failing_since"] == shown["since"] == shown["last_run_at"]
    assert 'ct_ops_check_results_total{status="fail"} 1.0' in metrics


async def test_an_existing_agents_results_are_stored_with_their_seconds_as_milliseconds(
    server: RealServer,
) -> None:
    """They come beside its vitals; one that comes again is no second one."""
    host = await server.enrolled("web-1")
    check_id = await define(server, host)
    ran_at = int(time.time()) - 5
    result = wire.CheckResult(
        check_id=check_id, status="pass", output="port 22 reachable", ran_at_unix=ran_at
    )
    frame = wire.HeartbeatRequest(agent_id=host.agent_id, timestamp_unix=ran_at, check_results=[result])
    nothing = wire.CheckResult(check_id=NO_CHECKS.check_id, status="fail", ran_at_unix=ran_at)
    frame.check_results.append(nothing)
    async with connected(server, host) as stream:
        for _ in range(2):
            await stream.write(frame)
            await next_reply(stream)
        await stream.write(frame)
        await next_reply(stream)
    (stored,) = await results(server, check_id)

    assert datetime.fromtimestamp(ran_at, UTC) == datetime.fromisoformat(stored["ran_at"])
    assert "items_refused_total{" not in (await server.get("/metrics")).text


async def test_attack_a_result_for_another_agents_check_is_refused(server: RealServer) -> None:
    """By index and with its reason, beside a removed check's and one that was made up; the rest is stored."""
    victim, attacker = await server.enrolled("victim"), await server.enrolled("attacker")
    theirs, own, removed = (
        await define(server, victim),
        await define(server, attacker),
        await define(server, attacker),
    )
    await server.ask("DELETE", f"/v1/checks/{removed}", {"actor": "ada"})
    forged = [
        wire.CheckResult(check_id=check_id, status="pass", ran_at_ms=now_ms())
        for check_id in (theirs, own, removed, "made-up")
    ]
    async with connected(server, attacker, HELLO) as stream:
        refused = await deliver(stream, attacker, 1, *forged)
    async with connected(server, attacker) as stream:  # and as an existing agent would
        await stream.write(wire.HeartbeatRequest(agent_id=attacker.agent_id, check_results=forged[:1]))
        for _ in ("its checks, pushed", "the reply"):
            await next_reply(stream)
    metrics = (await server.get("/metrics")).text

    assert {0: "not_yours", 2: "removed_check", 3: "unknown_check"} == refused
    assert [] == await results(server, theirs)
    assert 1 == len(await results(server, own))
    assert 'ct_ops_items_refused_total{reason="not_yours"} 2.0' in metrics


async def test_a_result_that_was_under_way_when_its_check_was_removed_is_nobodys_fault(
    server: RealServer,
) -> None:
    """The agent may forget it, and is not called degraded for it; for a forged one it is."""
    host, victim = await server.enrolled("web-1"), await server.enrolled("web-2")
    check_id, theirs = await define(server, host), await define(server, victim)
    await server.ask("DELETE", f"/v1/checks/{check_id}", {"actor": "ada"})
    async with connected(server, host, HELLO) as stream:
        late = wire.CheckResult(check_id=check_id, status="pass", ran_at_ms=now_ms())
        refused = await deliver(stream, host, 1, late)
        honest = await server.agent(host)
        await deliver(stream, host, 2, wire.CheckResult(check_id=theirs, status="pass", ran_at_ms=now_ms()))
        forging = await server.agent(host)

    assert {0: "removed_check"} == refused
    assert ([], []) == (honest["refused_items"], honest["degraded"])
    assert ["data_refused"] == [reason["reason"] for reason in forging["degraded"]]


async def test_attack_hostile_results_neither_stop_a_batch_nor_reach_a_terminal(server: RealServer) -> None:
    """Escapes, a NUL, 2^63, the far future, an unknown status: refused or made harmless, one by one."""
    host = await server.enrolled("web-1")
    check_id = await define(server, host)
    at = now_ms()
    hostile = [
        wire.CheckResult(
            check_id=check_id, status="fail", output="\x1b[2J\x1b]0;owned\x07 a\0b\nc", ran_at_ms=at
        ),
        wire.CheckResult(check_id=check_id, status="pass", duration_ms=-(2**31), ran_at_ms=at - 1),
        wire.CheckResult(check_id=check_id, status="pass", ran_at_ms=2**63 - 1),
        wire.CheckResult(check_id=check_id, status="pass", ran_at_unix=2**63 - 1),
        wire.CheckResult(check_id=check_id, status="great", ran_at_ms=at),
        wire.CheckResult(check_id=check_id + "\x1b[2J", status="pass", ran_at_ms=at),
        wire.CheckResult(check_id="", status="pass", ran_at_ms=at),
        wire.CheckResult(check_id=check_id, status="pass", ran_at_ms=at + 3_600_000),
    ]
    async with connected(server, host, HELLO) as stream:
        refused = await deliver(stream, host, 1, *hostile)
        await asyncio.sleep(0.005)
        honest = wire.CheckResult(check_id=check_id, status="pass", output="fine", ran_at_ms=now_ms())
        await deliver(stream, host, 2, honest)
    found = await results(server, check_id)
    shown = await server.ask("GET", f"/v1/checks/{check_id}")

    assert {2, 3, 4, 5, 6} == set(refused)
    assert not any(character in each["output"] for each in found for character in "\x1b\x07\0")
    assert [0, 0, 0, 0] == [each["duration_ms"] for each in found]
    assert "pass" == shown["status"], "an hour ahead does not keep an honest run from being the newest"


async def test_attack_ten_megabytes_of_output_end_the_stream_and_nothing_else(server: RealServer) -> None:
    """A message has a limit; what fits into one is cut to what is kept of an output."""
    host, neighbour = await server.enrolled("web-1"), await server.enrolled("web-2")
    check_id, other = await define(server, host), await define(server, neighbour)
    async with connected(server, neighbour, HELLO) as beside:
        async with connected(server, host, HELLO) as stream:
            large = wire.CheckResult(
                check_id=check_id, status="pass", output="x" * 200_000, ran_at_ms=now_ms()
            )
            await deliver(stream, host, 1, large)
            large.output = "x" * 10_000_000
            await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, check_results=[large]))
            assert grpc.StatusCode.RESOURCE_EXHAUSTED is await stream.code()
        fine = wire.CheckResult(check_id=other, status="pass", ran_at_ms=now_ms())
        assert {} == await deliver(beside, neighbour, 1, fine)

    assert [16_384] == [len(each["output"]) for each in await results(server, check_id)]


async def test_a_change_on_one_server_reaches_an_agent_on_another_one_at_once(
    tmp_path: Path, postgres_url: str
) -> None:
    """Two servers with the same keys on one database; and each stores results of the other's checks."""
    one_settings, two_settings = (settings_for(tmp_path / name, postgres_url) for name in ("one", "two"))
    async with real_server(one_settings) as one:
        ignored = shutil.ignore_patterns("*.sock", "*.lock", "*.db*")
        await asyncio.to_thread(shutil.copytree, tmp_path / "one", tmp_path / "two", ignore=ignored)
        async with real_server(two_settings) as two:
            host = await one.enrolled("web-1")
            async with connected(two, host, HELLO) as stream:
                began = time.monotonic()
                check_id = await define(one, host)
                async with asyncio.timeout(20):
                    while not (told := await next_reply(stream)).definitions.checks:
                        pass
                took_s = time.monotonic() - began
                result = wire.CheckResult(check_id=check_id, status="pass", ran_at_ms=now_ms())
                await deliver(stream, host, 1, result)
            found = await results(one, check_id)

    print(f"defined on one server, told on the other after {took_s:.3f} s")  # noqa: T201  the figure
    assert [check_id] == [each.check_id for each in told.definitions.checks]
    assert 1 == len(found)

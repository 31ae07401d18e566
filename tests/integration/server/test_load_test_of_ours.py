"""The load tool against a real server of ours: the whole way, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ct_ops_loadtest import cli
from ct_ops_loadtest.connection import Server
from ct_ops_loadtest.crew import run
from ct_ops_loadtest.plan import Fault, Plan, Target
from ct_ops_loadtest.preflight import probe
from ct_ops_loadtest.tls import Trust
from ct_ops_proto.enrolment_token import parse_token
from real_server import RealServer, real_server, settings_for

KEY = "k3y-of-the-load-test"
PLAN = Plan("r-1", agents=6, ramp_s=0, duration_s=1.5, interval_s=0.1, faults=(Fault("storm", 0.3, 0.5),))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RealServer]:
    async with real_server(replace(settings_for(tmp_path / "server"), loadtest_admin_key=KEY)) as running:
        yield running


async def target_of(server: RealServer) -> Target:
    secret = parse_token(await server.token()).secret
    return Target(Server("localhost", server.wire.port), Trust(server.wire.ca_pem), secret)


async def hostnames(server: RealServer) -> list[str]:
    return sorted(agent["hostname"] for agent in await server.ask("GET", "/v1/agents"))


def cleaned_up(server: RealServer) -> str:
    arguments = ["cleanup", "--run-id", "r-1", "--web-url", f"http://127.0.0.1:{server.http_port}"]
    result = CliRunner().invoke(cli.main, arguments, env={"CT_OPS_LOADTEST_ADMIN_KEY": KEY})
    assert 0 == result.exit_code, result.output
    return result.stdout


async def test_a_run_is_served_whole_and_leaves_nothing_behind(server: RealServer) -> None:
    """Preflight, enrolment, heartbeats, a storm; then cleanup takes its own hosts, and only once."""
    target = await target_of(server)
    bystander = await server.enrolled("loadtest-r-10-0001")
    assert [] == await probe(target, PLAN)
    tally = await run(target, PLAN, 1, stop=asyncio.Event(), show=lambda _: None)

    assert ({}, True) == (tally.failures, tally.served)
    assert tally.cut == tally.reconnecting.count == sum(PLAN.is_hit(number, 0) for number in range(6)) > 0
    assert 8 == len(await hostnames(server))
    said = [await asyncio.to_thread(cleaned_up, server) for _ in range(2)]
    assert ["7 hosts deleted\n", "0 hosts deleted\n"] == said
    assert [bystander.hostname] == await hostnames(server)


async def test_an_agent_cannot_speak_on_another_ones_connection(server: RealServer) -> None:
    """Shared connections present one leaf, and the agent is who the leaf says: the run fails and says why."""
    plan = replace(PLAN, agents=2, fanout=2, duration_s=0.2, faults=())
    tally = await run(await target_of(server), plan, 1, stop=asyncio.Event(), show=lambda _: None)

    assert not tally.served
    assert tally.failures

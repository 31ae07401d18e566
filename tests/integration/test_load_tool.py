"""The load tool over real TLS: what it counts is what happened, and whatever goes wrong is counted as what it is.

The server is the stand-in for an existing ingest, which knows nothing of our fields.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from ct_ops_loadtest.connection import Server
from ct_ops_loadtest.crew import CrewError, crew, run
from ct_ops_loadtest.driver import Driver
from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.life import Life
from ct_ops_loadtest.plan import Fault, Plan, Slowness, Target
from ct_ops_loadtest.preflight import PreflightError, probe
from ct_ops_loadtest.tls import Trust
from fakes.conforming_server import ConformingServer, conforming_server

PLAN = Plan("r", agents=3, ramp_s=0, duration_s=0, interval_s=0.1, concurrency=2)
CLOSED_LOOP = replace(PLAN, interval_s=0)
SLOW = Slowness(1.0, bytes_per_s=3_000, read_after_s=0.15)


@pytest.fixture
async def server() -> AsyncIterator[ConformingServer]:
    async with conforming_server() as running:
        yield running


def target_of(server: ConformingServer, **changes: Any) -> Target:
    target = Target(Server("localhost", server.port), Trust(server.server_ca.pem), "tok_opaque")
    return replace(target, **changes)


@asynccontextmanager
async def driven(server: ConformingServer, plan: Plan) -> AsyncIterator[Driver]:
    """Drive agents in this process until the block ends."""
    hold, stop = asyncio.Event(), asyncio.Event()
    driver = Driver(target_of(server), plan, range(plan.agents), concurrency=plan.concurrency)
    driving = asyncio.create_task(driver.run(on_settled=hold.set, hold=hold, stop=stop))
    try:
        yield driver
    finally:
        stop.set()
        await driving


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the tool to have counted something."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  a tally has no event for each of its numbers
            await asyncio.sleep(0.01)


async def counted(server: ConformingServer, plan: Plan, condition: Callable[[Tally], bool]) -> Tally:
    """Drive until something was counted; return everything that was."""
    async with driven(server, plan) as driver:
        await until(lambda: condition(driver.tally))
    return driver.tally


async def test_virtual_agents_enrol_and_beat(server: ConformingServer) -> None:
    """Each with its own key, leaf and connection; every round trip is a frame that the server has seen."""
    tally = await counted(server, CLOSED_LOOP, lambda tally: tally.held > 30)

    assert tally.served
    assert (
        3 == len({bytes(agent.public_key) for agent in server.agents.values()}) == len(server.stream_leaves)
    )
    assert {"loadtest-r-0000", "loadtest-r-0001", "loadtest-r-0002"} == {
        request.agent_info.hostname for request in server.registrations
    }
    assert 0 <= len(server.frames) - tally.acknowledged - 3 <= 3  # the first of each stream carries the token
    assert tally.round_trips.count == tally.acknowledged
    assert (3, 3) == (tally.connecting.count, tally.registering.count)


async def test_streams_are_closed_with_a_goodbye(server: ConformingServer) -> None:
    """A server must not take the end of a run for a network that broke."""
    await counted(server, PLAN, lambda tally: tally.acknowledged > 3)

    await server.wait_until(lambda: server.farewells == 3)


async def test_a_refused_token_is_counted_once_an_agent(server: ConformingServer) -> None:
    """With the server's own sentence; nobody tries again what cannot succeed."""
    server.script.tokens.clear()
    tally = await counted(server, PLAN, lambda tally: tally.failed == 3)

    assert {"UNAUTHENTICATED: invalid or expired enrolment token": 3} == tally.failures
    assert not tally.served


async def test_a_token_that_does_not_approve_is_named(server: ConformingServer) -> None:
    """Nobody waits for an operator in a load test."""
    server.script.auto_approve = False
    tally = await counted(server, PLAN, lambda tally: tally.pending == 3)

    assert {"registered as pending without a leaf: use an auto-approving token": 3} == tally.failures


async def test_refused_streams_make_the_run_a_failure(server: ConformingServer) -> None:
    """Even when agents come through later."""
    server.script.refuse_stream = grpc.StatusCode.PERMISSION_DENIED, "agent is revoked"
    async with driven(server, PLAN) as driver:
        await until(lambda: driver.tally.refused >= 3)
        server.script.refuse_stream = None
        await until(lambda: driver.tally.connected == 3)

    assert not driver.tally.served
    assert "PERMISSION_DENIED: agent is revoked" in driver.tally.failures


async def test_agents_that_are_put_off_come_when_the_server_said(server: ConformingServer) -> None:
    """That is no failure: a server that spreads a storm is doing its work."""
    server.script.refuse_stream = grpc.StatusCode.RESOURCE_EXHAUSTED, "too many at once"
    server.script.trailing = (("ct-ops-retry-after-ms", "200"),)
    async with driven(server, PLAN) as driver:
        await until(lambda: driver.tally.put_off >= 3)
        server.script.refuse_stream = None
        await until(lambda: driver.tally.connected == 3 and driver.tally.acknowledged > 3)
        assert driver.tally.served

    assert {} == driver.tally.failures


async def test_a_stream_that_breaks_is_counted_with_its_reason_and_its_agent_comes_back(
    server: ConformingServer,
) -> None:
    """The server is restarted while agents wait for their next turn: how long each was away is measured."""
    async with driven(server, PLAN) as driver:
        await until(lambda: driver.tally.acknowledged > 3)
        server.end_streams(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        await until(lambda: driver.tally.broken == 3 and driver.tally.connected == 3)

    assert 3 <= driver.tally.failures["UNAVAILABLE: the server is stopping"]
    assert 3 == driver.tally.reconnecting.count
    assert 0.7 < driver.tally.reconnecting.longest_s < 25
    assert not driver.tally.served


async def test_agents_that_a_server_sends_away_come_back_within_the_time_it_said(
    server: ConformingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is restarted spreads its agents; they do not fall back on waits of their own."""

    def own_wait(_life: Life, _asked_s: float) -> float:
        raise AssertionError("an agent waits as it likes")

    monkeypatch.setattr(Life, "_wait_s", own_wait)
    server.script.trailing = (("ct-ops-reconnect-within-ms", "1"),)
    async with driven(server, PLAN) as driver:
        await until(lambda: driver.tally.acknowledged > 3)
        server.end_streams(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        await until(lambda: driver.tally.broken == 3 and driver.tally.connected == 3)

    assert 3 == driver.tally.reconnecting.count


async def test_connections_that_are_lost_are_made_again(server: ConformingServer) -> None:
    """A firewall that cuts them; nobody is counted as connected who is not."""
    async with driven(server, PLAN) as driver:
        await until(lambda: driver.tally.acknowledged > 3)
        await server.drop_connections()
        await until(lambda: driver.tally.broken == 3 and driver.tally.connected == 3)

    assert 6 == driver.tally.streams == len(server.stream_leaves)


async def test_a_storm_cuts_connections_and_all_come_back_at_once(server: ConformingServer) -> None:
    """What the plan cuts is no failure."""
    plan = replace(PLAN, faults=(Fault("storm", 0.1),))
    async with driven(server, plan) as driver:
        await until(lambda: driver.tally.cut == 3 and driver.tally.connected == 3)
        assert driver.tally.served

    assert {} == driver.tally.failures
    assert 3 == driver.tally.reconnecting.count


async def test_an_outage_keeps_its_agents_away_for_as_long_as_planned(server: ConformingServer) -> None:
    """The time until they are back counts from its end."""
    plan = replace(PLAN, faults=(Fault("outage", 0.0, for_s=0.4),))
    loop = asyncio.get_running_loop()
    async with driven(server, plan) as driver:
        await until(lambda: driver.tally.cut == 3)
        cut_at_s = loop.time()
        assert 0 == driver.tally.connected
        await until(lambda: driver.tally.connected == 3)

    assert loop.time() - cut_at_s > 0.3
    assert {} == driver.tally.failures


async def test_slow_agents_read_and_write_slowly_and_are_measured_apart(server: ConformingServer) -> None:
    """Their frames drip, their replies lie unread for a while; the others' percentiles do not suffer."""
    tally = await counted(server, replace(PLAN, slow=SLOW), lambda tally: tally.slow_round_trips.count >= 3)

    assert tally.served
    assert 0 == tally.round_trips.count
    assert tally.slow_round_trips.percentile_s(50) >= 0.14


async def test_what_the_server_asks_for_is_done(server: ConformingServer) -> None:
    """Checks, a query, a task and an inventory, as existing agents answer them."""
    server.script.checks = [
        {"check_id": "c1", "check_type": "port", "config_json": "{}", "interval_seconds": 1}
    ]
    async with driven(server, replace(PLAN, agents=1)) as driver:
        await until(lambda: driver.tally.acknowledged > 1)
        server.push(pending_queries=[{"query_id": "q1", "query_type": "list_ports"}])
        server.push(pending_task={"task_id": "t1", "task_type": "software_inventory", "config_json": "{}"})
        await server.wait_until(
            lambda: bool(server.task_results and server.query_results and server.check_results)
        )
        await until(lambda: driver.tally.served)

    assert ("t1", 0) == (server.task_results[0].task_id, server.task_results[0].exit_code)
    assert 2 <= server.task_output("t1").count("step") <= 4
    assert 1_000 == sum(len(chunk.packages) for chunk in server.scans[0])
    assert {"answers to queries": 1, "packages": 1_000, "tasks": 1} == {
        what: count for what, count in driver.tally.work.items() if "checks" not in what
    }


async def test_agents_can_share_a_connection(server: ConformingServer) -> None:
    """A server that looks at the agent token alone serves them; one leaf is presented for all."""
    tally = await counted(server, replace(PLAN, fanout=3), lambda tally: tally.acknowledged > 6)

    assert tally.served
    assert 1 == len(set(server.stream_leaves)) < len(server.stream_leaves) == 3


async def test_a_run_of_two_processes_is_one_run(server: ConformingServer) -> None:
    """What both count is added up, they begin together, and every agent is driven once."""
    said: list[str] = []
    plan = replace(PLAN, agents=5, duration_s=1)
    tally = await run(target_of(server), plan, 2, stop=asyncio.Event(), show=said.append)

    assert tally.served
    assert (5, 5) == (tally.agents, len({request.agent_info.hostname for request in server.registrations}))
    assert tally.held_s >= 1
    assert tally.round_trips.count == tally.acknowledged > 5
    assert "all agents have started: 5 connected" in said


async def test_slow_agents_are_cut_like_all_others(
    server: ConformingServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the loop that processes of the tool run on, which is strict about what is closed: nothing is said of it."""
    plan = replace(
        PLAN,
        slow=Slowness(1.0, read_after_s=0.15),
        faults=(Fault("storm", 0.3), Fault("outage", 0.4, for_s=0.1)),
    )
    async with crew(target_of(server), plan, 1) as members:
        await members.settled()
        members.hold()
        await until(lambda: members.tally.cut >= 3 and members.tally.reconnecting.count == members.tally.cut)
        await members.stop()

    assert {} == members.tally.failures
    assert "" == capfd.readouterr().err


async def test_a_run_that_is_stopped_ends_quickly_with_its_figures(server: ConformingServer) -> None:
    """Also while agents still start."""
    stop = asyncio.Event()
    plan = replace(PLAN, agents=1_000, ramp_s=600)
    running = asyncio.create_task(run(target_of(server), plan, 1, stop=stop, show=lambda _: None))
    await server.wait_until(lambda: len(server.frames) >= 1)
    stop.set()
    async with asyncio.timeout(20):
        tally = await running

    assert 1 <= tally.registered < 1_000
    assert not tally.served


async def test_a_process_of_the_tool_that_dies_ends_the_run(server: ConformingServer) -> None:
    """A mistake of the tool must not pass for figures of the server."""

    async def broken_off() -> None:
        async with crew(target_of(server), PLAN, 2) as members:
            await members.settled()
            members._members[1].process.kill()
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await broken_off()
    assert raised.group_contains(CrewError, match="broke off")


async def test_ctrl_c_prints_the_summary(server: ConformingServer, tmp_path: Path) -> None:
    """The process of the command line, its children with it: nothing is left running."""
    (tmp_path / "ca.pem").write_text(server.server_ca.pem)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ct_ops_loadtest.cli", "run", "--address", server.address, "--ca-cert",
        str(tmp_path / "ca.pem"), "--agents", "2", "--ramp", "0", "--heartbeat-interval", "100ms", "--duration", "0",
        "--run-id", "ctrl-c",
        env=dict(os.environ) | {"CT_OPS_ENROLMENT_TOKEN": "tok_opaque"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await server.wait_until(lambda: len(server.stream_leaves) == 3 and len(server.frames) > 5)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert (0, "") == (process.returncode, "" if b"Traceback" not in err else err.decode())
    assert out.decode().startswith("agents          2 of 2 registered, 2 connected at the end")
    assert b"ct-ops-loadtest cleanup --run-id ctrl-c" in err


async def test_the_preflight_says_what_would_go_wrong(server: ConformingServer) -> None:
    """Each with the next step, before a single agent of the run was made."""
    good = target_of(server)
    strangers = Trust(server.agent_ca.pem)

    assert [] == await probe(good, PLAN)
    assert ["loadtest-r-preflight"] == [request.agent_info.hostname for request in server.registrations]
    for target, said in (
        (replace(good, token="tok_wrong"), "the token is not accepted"),
        (replace(good, server=Server("localhost", 1)), "does not answer"),
        (replace(good, trust=strangers), "certificate is not believed"),
    ):
        with pytest.raises(PreflightError, match=said):
            await probe(target, PLAN)
    server.script.refuse_stream = grpc.StatusCode.PERMISSION_DENIED, "agent is revoked"
    with pytest.raises(PreflightError, match="registers agents and refuses their stream"):
        await probe(good, PLAN)
    server.script.auto_approve = False
    with pytest.raises(PreflightError, match="use an auto-approving token"):
        await probe(good, PLAN)


async def test_any_server_is_believed_when_that_is_asked_for(server: ConformingServer) -> None:
    """``--tls-skip-verify``."""
    assert [] == await probe(target_of(server, trust=Trust(verified=False)), PLAN)


async def test_a_server_that_talks_nonsense_breaks_the_stream_and_not_the_tool(
    server: ConformingServer,
) -> None:
    """Counted, and tried again."""
    async with driven(server, replace(PLAN, agents=1)) as driver:
        await until(lambda: driver.tally.acknowledged > 1)
        server.push_garbage()
        await until(lambda: driver.tally.broken == 1 and driver.tally.connected == 1)

    assert not driver.tally.served

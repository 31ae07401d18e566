"""Checks, queries and tasks of a server that behaves as existing ones do, over real TLS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from check_peers import LOCAL_NAMES, listening, sign, silence
from ct_ops_agent.collectors.software import read_packages
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.tasks.attempts import Attempt, Attempts
from ct_ops_proto.enrolment_token import parse_token
from fakes.conforming_server import ConformingServer, conforming_server
from work_desk import until
from working_agent import WorkingAgent, working_agent


@pytest.fixture
async def server() -> AsyncIterator[ConformingServer]:
    async with conforming_server() as running:
        yield running


@pytest.fixture
def config(server: ConformingServer, tmp_path: Path) -> AgentConfig:
    ca_cert_file = tmp_path / "ca.pem"
    ca_cert_file.write_text(server.server_ca.pem)
    return AgentConfig(
        address=server.address,
        ca_cert_file=ca_cert_file,
        tls_skip_verify=False,
        enrolment_token=parse_token("tok_opaque"),
        data_dir=tmp_path / "agent",
        heartbeat_interval=timedelta(seconds=30),
        tags=(),
        hostname=None,
    )


def check(check_id: str, check_type: str, interval_s: int = 3_600, **config: Any) -> dict[str, Any]:
    return {
        "check_id": check_id,
        "check_type": check_type,
        "config_json": json.dumps(config),
        "interval_seconds": interval_s,
    }


async def results_of(agent: WorkingAgent, server: ConformingServer, *ids: str) -> dict[str, Any]:
    """Return the results of these checks when each has one."""
    await agent.until(lambda: set(ids) <= {each.check_id for each in server.check_results})
    return {each.check_id: each for each in server.check_results}


async def two_more(agent: WorkingAgent, server: ConformingServer) -> None:
    """Wait for two further results of checks."""
    seen = len(server.check_results)
    await agent.until(lambda: len(server.check_results) > seen + 1)


async def test_checks_report_in_the_words_of_existing_agents(
    server: ConformingServer, config: AgentConfig, tmp_path: Path
) -> None:
    """Every type, with the spellings that existing servers have stored."""
    signed = sign("web-1", names=LOCAL_NAMES)
    file = tmp_path / "web.pem"
    file.write_text(signed.pem)
    async with listening(silence) as port, listening(silence, tls=signed.context(tmp_path)) as tls_port:
        server.script.checks = [
            check("port", "port", host="127.0.0.1", port=port),
            check("process", "process", process_name="no such process"),
            check("http", "http", url="http://127.0.0.1:1/", expected_status=200),
            check("certificate", "certificate", host="127.0.0.1", port=tls_port, serverName="web-1", timeoutSeconds=5),
            check("file", "cert_file", filePath=str(file), format="pem"),
            check("accounts", "service_account", min_human_uid=1000),
            check("bad", "port", host="127.0.0.1", port="many"),
        ]  # fmt: skip
        async with working_agent(config) as agent:
            results = await results_of(
                agent, server, "port", "process", "http", "certificate", "file", "accounts", "bad"
            )

    assert ("pass", f"port {port} reachable") == (results["port"].status, results["port"].output)
    assert "fail" == results["process"].status
    assert ("fail", "request failed: Connection refused") == (results["http"].status, results["http"].output)
    for check_id in ("certificate", "file"):
        assert ("pass", "web-1") == (
            results[check_id].status,
            json.loads(results[check_id].output)["common_name"],
        )
    assert "error" == results["accounts"].status
    assert "not supported by this agent" in results["accounts"].output
    assert "error" == results["bad"].status
    assert "port: " in results["bad"].output
    assert all(each.ran_at_unix > 1_700_000_000 for each in results.values())


async def test_a_frame_that_is_pushed_stops_no_check(server: ConformingServer, config: AgentConfig) -> None:
    """It carries an empty list, which means nothing from an existing server."""
    async with listening(silence) as port:
        server.script.checks = [check("c1", "port", 1, host="127.0.0.1", port=port)]
        async with working_agent(config) as agent:
            await results_of(agent, server, "c1")
            server.script.checks = []
            server.push()
            await two_more(agent, server)


async def test_a_check_that_is_replaced_stops(server: ConformingServer, config: AgentConfig) -> None:
    """With the reply to the next heartbeat."""
    async with listening(silence) as port:
        server.script.checks = [check("old", "port", 1, host="127.0.0.1", port=port)]
        async with working_agent(config) as agent:
            await results_of(agent, server, "old")
            server.script.checks = [check("new", "port", 1, host="127.0.0.1", port=port)]
            await results_of(agent, server, "new")
            before = sum(each.check_id == "old" for each in server.check_results)
            await two_more(agent, server)

    assert before == sum(each.check_id == "old" for each in server.check_results)


async def test_checks_go_on_while_the_server_is_away(server: ConformingServer, config: AgentConfig) -> None:
    """And what they found meanwhile comes with the next stream: for as long as the process lives it is kept."""
    looks = 0

    async def count(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal looks
        looks += 1

    async with listening(count) as port:
        server.script.checks = [check("c1", "port", 1, host="127.0.0.1", port=port)]
        async with working_agent(config) as agent:
            await results_of(agent, server, "c1")
            door = server.port
            await server.stop()
            before = looks
            await until(lambda: looks >= before + 2)
            away = len(server.check_results)
            await server.start(port=door)
            await agent.until(lambda: len(server.check_results) >= away + 2)

    moments = sorted({each.ran_at_unix for each in server.check_results})
    assert all(after - before <= 2 for before, after in pairwise(moments))


async def test_queries_are_answered(server: ConformingServer, config: AgentConfig) -> None:
    """At once, each once a stream, and what cannot be answered with a reason."""
    async with listening(silence) as port, working_agent(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        for _ in range(2):
            server.push(
                pending_queries=[
                    {"query_id": "q1", "query_type": "list_ports"},
                    {"query_id": "q2", "query_type": "list_dreams"},
                ]
            )
        await server.wait_until(lambda: len(server.query_results) == 2)
        by_id = {each.query_id: each for each in server.query_results}

        assert "ok" == by_id["q1"].status
        assert ("tcp", port) in [(each.protocol, each.port) for each in by_id["q1"].ports]
        assert ("error", "this agent does not know 'list_dreams'") == (
            by_id["q2"].status,
            by_id["q2"].error.partition(";")[0],
        )


def push_task(server: ConformingServer, task_id: str, task_type: str = "software_inventory") -> None:
    server.push(pending_task={"task_id": task_id, "task_type": task_type, "config_json": "{}"})


async def test_the_software_of_the_host_is_uploaded(server: ConformingServer, config: AgentConfig) -> None:
    """In chunks of 500, the last one marked, with the agent token; output and result come in frames."""
    expected = read_packages()
    async with working_agent(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        push_task(server, "scan-1")
        await server.wait_until(lambda: bool(server.task_results))
    (scan,), (result,) = server.scans, server.task_results

    assert [False] * (len(scan) - 1) + [True] == [chunk.is_last for chunk in scan]
    assert {("scan-1", "agent-1", expected.source)} == {
        (chunk.scan_id, chunk.agent_id, chunk.source) for chunk in scan
    }
    assert sorted((each.name, each.version) for each in expected.packages) == sorted(
        (package.name, package.version) for chunk in scan for package in chunk.packages
    )
    assert all(len(chunk.packages) == 500 for chunk in scan[:-1])
    assert (0, "", "software_inventory") == (result.exit_code, result.error, result.task_type)
    assert {"source": expected.source, "packages": len(expected.packages)} == json.loads(result.result_json)
    assert server.task_output("scan-1").startswith(
        f"{len(expected.packages)} packages of {expected.source}\n"
    )


async def test_an_upload_that_breaks_is_done_again(server: ConformingServer, config: AgentConfig) -> None:
    """From the first chunk; what had come counts for nothing."""
    server.script.break_upload_after = 1
    async with working_agent(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        push_task(server, "scan-1")
        await server.wait_until(lambda: bool(server.task_results))

    assert (1, 1) == (len(server.broken_scans), len(server.scans))
    assert 0 == server.scans[0][0].chunk_index
    assert 0 == server.task_results[0].exit_code


@pytest.mark.parametrize("how", ["connection", "stream"])
async def test_an_upload_is_done_again_when_its_connection_goes(
    how: str, server: ConformingServer, config: AgentConfig
) -> None:
    """Cut by the network, or closed by ourselves because the heartbeat stream has ended."""
    server.script.stall_upload = True
    async with working_agent(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        push_task(server, "scan-1")
        await server.wait_until(lambda: bool(server.broken_scans))
        if how == "connection":
            await server.drop_connections()
        else:
            server.end_streams(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        await server.wait_until(lambda: bool(server.task_results))

    assert (1, 0) == (len(server.scans), server.task_results[0].exit_code)


async def test_a_task_goes_on_over_a_lost_stream_and_is_not_done_twice(
    server: ConformingServer, config: AgentConfig
) -> None:
    """The stream is cut in the middle of the upload; the server pushes the task again on the next one."""
    server.script.break_upload_after = 1
    async with working_agent(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        push_task(server, "scan-1")
        await server.wait_until(lambda: bool(server.broken_scans))
        await server.drop_connections()
        await server.wait_until(lambda: len(server.stream_leaves) == 2)
        push_task(server, "scan-1")
        await server.wait_until(lambda: bool(server.task_results))
        push_task(server, "scan-1")
        await server.wait_until(lambda: len(server.task_results) == 2)

    assert 1 == len(server.scans)
    assert server.task_results[0] == server.task_results[1]


@pytest.mark.parametrize("task_type", ["custom_script", "patch", "service", "agent_uninstall"])
async def test_other_tasks_are_refused_as_existing_agents_do(
    task_type: str, server: ConformingServer, config: AgentConfig
) -> None:
    """With exit code -1, and a sentence instead of nothing."""
    async with working_agent(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        push_task(server, "t1", task_type)
        await server.wait_until(lambda: bool(server.task_results))
    (result,) = server.task_results

    assert (-1, task_type, "") == (result.exit_code, result.task_type, result.result_json)
    assert "privileged helper" in result.error


async def test_a_task_that_a_restart_ended_is_reported(server: ConformingServer, config: AgentConfig) -> None:
    """With an existing server it would otherwise hang for an hour."""
    async with working_agent(config):
        await server.wait_until(lambda: len(server.frames) == 1)
    Attempts(config.data_dir).record(Attempt("scan-1", "software_inventory", 0))

    async with working_agent(config):
        await server.wait_until(lambda: bool(server.task_results))
    (result,) = server.task_results

    assert ("scan-1", -1) == (result.task_id, result.exit_code)
    assert "the agent ended while it did this task" in result.error


async def test_a_task_can_be_cancelled_by_its_server(server: ConformingServer, config: AgentConfig) -> None:
    """Here while its upload waits for a connection to come back."""
    server.script.break_upload_after = 1
    async with working_agent(config):
        await server.wait_until(lambda: len(server.frames) == 1)
        server.push(
            pending_task={"task_id": "t1", "task_type": "software_inventory"}, cancel_task_ids=["t1", "t9"]
        )
        await server.wait_until(lambda: bool(server.task_results))
    (result,) = server.task_results

    assert (-1, "cancelled, as the server asked") == (result.exit_code, result.error)
    assert [] == server.scans

"""Tasks and software scans over the wire, by existing agents and by one that counts attempts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from real_server import RealServer, real_server, settings_for, tighter, two_servers
from wire_client import Host, reason_of
from work_wire import BASH, CURL, HELLO, Connected, code_of, connected, scan, upload

WIPES = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}
"""What makes an existing agent forget who it is."""


async def give(server: RealServer, host: Host, **more: Any) -> dict[str, Any]:
    body = {"actor": "test", "type": "software_inventory", **more}
    given: dict[str, Any] = await server.ask("POST", f"/v1/agents/{host.agent_id}/tasks", body)
    return given


async def show(server: RealServer, given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await server.ask("GET", f"/v1/tasks/{given['id']}")
    return found


async def packages(server: RealServer, host: Host, query: str = "") -> list[tuple[str, str]]:
    found = await server.ask("GET", f"/v1/agents/{host.agent_id}/packages{query}")
    return [(package["name"], package["version"]) for package in found]


async def until_running(server: RealServer, task: wire.AgentTask) -> None:
    """Wait until a pushed task has given a sign of life."""
    path = f"/v1/tasks/{task.task_id}?known=sent+1&wait_s=10"
    while (await server.ask("GET", path))["state"] == "sent":
        pass


async def refusal_of(agent: Connected, chunks: Any) -> tuple[grpc.StatusCode, str]:
    """Return how an upload was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await agent.upload(chunks)
    assert code_of(refused.value) not in WIPES
    return refused.value.code(), reason_of(refused.value)


async def test_an_existing_agent_scans_uploads_and_ends_its_task(server: RealServer) -> None:
    """Pushed, uploaded in chunks under the task's id, then the result beside a heartbeat."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        given = await give(server, host)
        task = await agent.task()
        assert (given["id"], "software_inventory") == (task.task_id, task.task_type)
        assert "sent" == (await show(server, given))["state"]
        await agent.say(task, "reading dpkg\n")
        assert "running" == (await show(server, given))["state"]
        assert 2 == await agent.upload(scan(task.task_id, BASH, CURL, chunk_size=1))
        await agent.end(task)
        done = await show(server, given)

    assert ("done", 0, 1) == (done["state"], done["exit_code"], done["attempt"])
    assert "reading dpkg\n" == done["output"]["text"]
    assert [("bash", "5.2-1"), ("curl", "8.1-1")] == await packages(server, host)


async def test_the_next_scan_marks_what_is_gone(server: RealServer) -> None:
    """And keeps since when each package was there."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        for found in ((BASH, CURL), (CURL,)):
            await give(server, host)
            task = await agent.task()
            await agent.upload(scan(task.task_id, *found))
            await agent.end(task)

    assert [("curl", "8.1-1")] == await packages(server, host)
    assert [("bash", "5.2-1")] == await packages(server, host, "?removed=true")
    assert [] == await packages(server, host, "?name=bash")


async def test_a_task_waits_for_a_host_that_is_offline(server: RealServer) -> None:
    """And is handed over when its stream begins."""
    host = await server.enrolled("host-1")
    given = await give(server, host)
    assert "waiting" == given["state"]
    async with connected(server.wire, host) as agent:
        assert given["id"] == (await agent.task()).task_id


async def test_the_next_task_is_pushed_when_the_one_before_is_over(server: RealServer) -> None:
    """At once: its agent's result is what made it due, nobody has to look for it."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        given = [await give(server, host) for _ in range(4)]
        done = list[str]()
        async with asyncio.timeout(20):  # a catch-up comes every 30 s
            for _ in given:
                task = await agent.task()
                done.append(task.task_id)
                await agent.stream.write(
                    wire.HeartbeatRequest(
                        agent_id=host.agent_id,
                        task_results=[wire.AgentTaskResult(task_id=task.task_id, task_type=task.task_type)],
                    )
                )

    assert [each["id"] for each in given] == done


async def test_what_a_failed_task_says_is_kept(server: RealServer) -> None:
    """Its exit code and its error."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        given = await give(server, host)
        await agent.end(await agent.task(), exit_code=-1, error="dpkg-query failed")
        failed = await show(server, given)

    assert ("failed", -1, "dpkg-query failed") == (failed["state"], failed["exit_code"], failed["error"])


async def test_an_existing_agent_that_reconnects_is_not_pushed_its_task_again(server: RealServer) -> None:
    """It runs on there, and its upload and its result still count."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        given = await give(server, host)
        task = await agent.task()
    async with connected(server.wire, host) as again:
        asked = await server.ask(
            "POST", f"/v1/agents/{host.agent_id}/queries", {"actor": "test", "type": "list_ports"}
        )
        frame = await again.pushed()
        assert not frame.HasField("pending_task")
        assert asked["id"] == frame.pending_queries[0].query_id
        await again.upload(scan(task.task_id, BASH))
        await again.end(task)

    assert ("done", 1) == ((await show(server, given))["state"], (await show(server, given))["attempt"])


async def test_our_agent_is_pushed_the_same_attempt_on_its_next_stream(server: RealServer) -> None:
    """Until it has accepted it; so a push that was lost costs nothing."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host, HELLO) as agent:
        given = await give(server, host)
        assert 1 == (await agent.task()).attempt
    async with connected(server.wire, host, HELLO) as again:
        task = await again.task()
        assert (given["id"], 1) == (task.task_id, task.attempt)
        body = wire.BatchBody(
            results=[
                wire.ResultItem(task_accepted=wire.TaskAccepted(task_id=task.task_id, attempt=1)),
                wire.ResultItem(
                    task_progress=wire.AgentTaskProgress(
                        task_id=task.task_id, output_chunk="reading\n", attempt=1
                    )
                ),
                wire.ResultItem(
                    task_result=wire.AgentTaskResult(
                        task_id=task.task_id, task_type=task.task_type, attempt=1
                    )
                ),
            ]
        )
        batch = wire.Batch(outbox_id=bytes(16), seq=1, payload=body.SerializeToString())
        await again.stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, batch=batch))
        ack = (await again.pushed()).batch_ack

    assert (wire.BatchAck.STORED, []) == (ack.verdict, list(ack.refused))
    assert ("done", "reading\n") == (
        (await show(server, given))["state"],
        (await show(server, given))["output"]["text"],
    )


async def test_a_task_is_cancelled_before_and_while_it_runs(server: RealServer) -> None:
    """A waiting one at once, a running one by its agent."""
    host = await server.enrolled("host-1")
    waiting = await give(server, host)
    body = {"actor": "test"}
    cancelled = await server.ask("POST", f"/v1/tasks/{waiting['id']}/cancel", body)
    assert "cancelled" == cancelled["state"]
    async with connected(server.wire, host) as agent:
        given = await give(server, host)
        task = await agent.task()
        cancelling = await server.ask("POST", f"/v1/tasks/{given['id']}/cancel", body)
        assert "cancelling" == cancelling["state"]
        assert task.task_id == await agent.cancelled()
        await agent.end(task, exit_code=-1, error="cancelled")

    assert "cancelled" == (await show(server, given))["state"]
    again = await server.ask("POST", f"/v1/tasks/{given['id']}/cancel", body)
    assert "it is cancelled" in again["error"]["message"]


async def test_a_task_that_no_agent_does_cannot_be_given(server: RealServer) -> None:
    """Agents of either kind execute no other."""
    host = await server.enrolled("host-1")
    refused = await give(server, host, type="custom_script")

    assert "software_inventory" in refused["error"]["message"]


async def test_a_task_given_on_one_server_runs_on_an_agent_of_another(
    postgres_url: str, tmp_path: Path
) -> None:
    """With its upload to either of them."""
    async with two_servers(tmp_path, postgres_url) as (first, second):
        host = await first.enrolled("host-1")
        async with connected(second.wire, host) as agent:
            given = await give(first, host)
            task = await agent.task()
            await upload(first.wire, host, scan(task.task_id, BASH))
            await agent.end(task)

        assert "done" == (await show(first, given))["state"]
        assert [("bash", "5.2-1")] == await packages(second, host)


# ---- attacks -----------------------------------------------------------------------------------------


@pytest.fixture
async def scanning(server: RealServer) -> Any:
    """A host whose agent was pushed a scan."""
    host = await server.enrolled("host-1")
    async with connected(server.wire, host) as agent:
        await give(server, host)
        yield agent, await agent.task()


async def test_attack_an_upload_without_its_last_chunk_changes_nothing(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """The existing server would take everything else for removed."""
    agent, task = scanning
    await agent.upload(scan(task.task_id, BASH, CURL))
    first = next(scan(task.task_id, BASH, CURL, chunk_size=1))

    assert (grpc.StatusCode.INVALID_ARGUMENT, "scan_incomplete") == await refusal_of(agent, [first])
    assert [("bash", "5.2-1"), ("curl", "8.1-1")] == await packages(server, agent.host)


async def test_attack_a_scan_that_found_nothing_empties_no_list(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """A package manager that fails is no host without software."""
    agent, task = scanning
    await agent.upload(scan(task.task_id, BASH))

    assert (grpc.StatusCode.INVALID_ARGUMENT, "scan_empty") == await refusal_of(agent, scan(task.task_id))
    assert [("bash", "5.2-1")] == await packages(server, agent.host)


@pytest.mark.parametrize("order", [[1, 0], [0, 0], [0, 2], [7], [-1, 0]])
async def test_attack_chunks_out_of_order(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask], order: list[int]
) -> None:
    """Repeated, left out, or from the middle: refused, and nothing is stored."""
    agent, task = scanning
    chunks = [
        wire.SoftwareInventoryChunk(
            scan_id=task.task_id, chunk_index=index, is_last=place == len(order) - 1, packages=[BASH]
        )
        for place, index in enumerate(order)
    ]
    if order[0] == 1:
        chunks[0].is_last = False

    assert (grpc.StatusCode.INVALID_ARGUMENT, "scan_order") == await refusal_of(agent, chunks)
    assert [] == await packages(server, agent.host)


async def test_attack_chunks_of_two_scans_in_one_upload(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """One upload is one scan."""
    agent, task = scanning
    chunks = list(scan(task.task_id, BASH, CURL, chunk_size=1))
    chunks[1].scan_id = "another"

    assert (grpc.StatusCode.INVALID_ARGUMENT, "scan_mixed") == await refusal_of(agent, chunks)
    assert [] == await packages(server, agent.host)


async def test_attack_a_hundred_thousand_packages(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """More than a host can have: cut off before they are all in memory."""
    agent, task = scanning
    many = [wire.SoftwarePackage(name=f"package-{number}") for number in range(100_000)]
    chunks = scan(task.task_id, *many, chunk_size=5_000)

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "scan_too_large") == await refusal_of(agent, chunks)
    assert [] == await packages(server, agent.host)


async def test_attack_another_agents_scan(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """A host that knows the task of another one can neither upload for it nor end it."""
    agent, task = scanning
    thief = await server.enrolled("host-2")
    async with connected(server.wire, thief) as other:
        assert (grpc.StatusCode.FAILED_PRECONDITION, "scan_not_yours") == await refusal_of(
            other, scan(task.task_id, CURL)
        )
        await other.say(task, "forged")
        await other.end(task)
    found = await server.ask("GET", f"/v1/tasks/{task.task_id}")

    assert ("sent", "") == (found["state"], found["output"]["text"])
    assert [] == await packages(server, agent.host)


async def test_attack_a_forged_result_after_completion(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """Nor another upload: what was reported stays."""
    agent, task = scanning
    await agent.upload(scan(task.task_id, BASH))
    await agent.end(task)
    await agent.end(task, exit_code=1, error="never mind")

    assert (grpc.StatusCode.FAILED_PRECONDITION, "scan_not_wanted") == await refusal_of(
        agent, scan(task.task_id, CURL)
    )
    found = await server.ask("GET", f"/v1/tasks/{task.task_id}")
    assert ("done", 0, "") == (found["state"], found["exit_code"], found["error"])
    assert [("bash", "5.2-1")] == await packages(server, agent.host)


@pytest.mark.parametrize("what", ["missing", "of another agent", "nonsense"])
async def test_attack_an_upload_without_the_agents_token(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask], what: str
) -> None:
    """The leaf alone is not enough; and no answer to it makes an existing agent forget who it is."""
    agent, task = scanning
    other = await server.enrolled("host-2")
    token = {"missing": "", "of another agent": other.agent_token, "nonsense": "x.y.z"}[what]
    agent.host = replace(agent.host, agent_token=token)

    assert (grpc.StatusCode.FAILED_PRECONDITION, "upload_token") == await refusal_of(
        agent, scan(task.task_id, BASH)
    )


async def test_attack_an_upload_in_the_name_of_another_agent(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """The chunk's agent id is a claim, and this one is false."""
    agent, task = scanning
    (chunk,) = scan(task.task_id, BASH)
    chunk.agent_id = "somebody-else"

    assert (grpc.StatusCode.INVALID_ARGUMENT, "agent_id_mismatch") == await refusal_of(agent, [chunk])
    assert [] == await packages(server, agent.host)


async def test_attack_an_upload_that_goes_on_after_the_revocation(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """It is ended, and what it had uploaded is not stored."""
    agent, task = scanning
    metadata = (("authorization", f"Bearer {agent.host.agent_token}"),)
    first, last = scan(task.task_id, BASH, CURL, chunk_size=1)
    async with agent.wire.connect(agent.host) as stub:
        call = stub.SubmitSoftwareInventory(metadata=metadata)
        await call.write(first)
        await until_running(server, task)
        await server.decide(agent.host, "revoke")
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(last)
            await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert "revoked" == reason_of(refused.value)

    assert [] == await packages(server, agent.host)


async def test_attack_packages_that_a_database_or_a_terminal_would_choke_on(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """NULs, escape sequences, absurd times and lengths are made storable, or left out."""
    agent, task = scanning
    odd = [
        wire.SoftwarePackage(name="nul\0byte", version="1\x1b[2J", install_date_unix=2**62),
        wire.SoftwarePackage(name="long", version="v" * 100_000),
        wire.SoftwarePackage(name="\0"),
    ]
    assert 2 == await agent.upload(scan(task.task_id, *odd))

    assert [("long", "v" * 255), ("nulbyte", "1[2J")] == await packages(server, agent.host)


async def test_attack_two_uploads_of_one_agent_at_the_same_time(
    server: RealServer, scanning: tuple[Connected, wire.AgentTask]
) -> None:
    """One at a time, so that nobody holds more than one scan's memory; the budget is given back."""
    agent, task = scanning
    metadata = (("authorization", f"Bearer {agent.host.agent_token}"),)
    first = next(scan(task.task_id, BASH, CURL, chunk_size=1))
    async with agent.wire.connect(agent.host) as stub:
        call = stub.SubmitSoftwareInventory(metadata=metadata)
        await call.write(first)
        await until_running(server, task)
        assert (grpc.StatusCode.UNAVAILABLE, "upload_running") == await refusal_of(
            agent, scan(task.task_id, BASH)
        )
        call.cancel()
    while True:
        try:
            assert 1 == await agent.upload(scan(task.task_id, BASH))
        except grpc.aio.AioRpcError as error:
            assert "upload_running" == reason_of(error)  # noqa: PT017  until the cancelled one has ended
        else:
            break


async def test_an_upload_that_stalls_is_ended(tmp_path: Path) -> None:
    """It would hold its memory for as long as it likes."""
    async with real_server(settings_for(tmp_path / "server"), limits=tighter(first_frame_s=2.0)) as server:
        host = await server.enrolled("host-1")
        async with connected(server.wire, host) as agent:
            await give(server, host)
            task = await agent.task()
            metadata = (("authorization", f"Bearer {host.agent_token}"),)
            async with server.wire.connect(host) as stub:
                call = stub.SubmitSoftwareInventory(metadata=metadata)
                await call.write(next(scan(task.task_id, BASH, CURL, chunk_size=1)))
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call

    assert (grpc.StatusCode.UNAVAILABLE, "upload_stalled") == (refused.value.code(), reason_of(refused.value))


async def test_scans_share_a_budget_of_memory(tmp_path: Path) -> None:
    """When it is used up, others come again later."""
    limits = tighter(uploaded_packages=1)
    async with real_server(settings_for(tmp_path / "server"), limits=limits) as server:
        host = await server.enrolled("host-1")
        async with connected(server.wire, host) as agent:
            await give(server, host)
            task = await agent.task()
            assert (grpc.StatusCode.UNAVAILABLE, "uploads_busy") == await refusal_of(
                agent, scan(task.task_id, BASH, CURL)
            )
            assert 1 == await agent.upload(scan(task.task_id, BASH))


async def test_what_was_pushed_and_what_is_open_is_counted(sqlite_server: RealServer) -> None:
    """For alarms: how long a push takes, how many tasks are not over."""
    host = await sqlite_server.enrolled("host-1")
    async with connected(sqlite_server.wire, host) as agent:
        await give(sqlite_server, host)
        task = await agent.task()
        await agent.upload(scan(task.task_id, BASH))
        await agent.end(task)
        text = (await sqlite_server.get("/metrics")).text

    assert "ct_ops_push_seconds_count 1.0" in text
    assert "ct_ops_inventories_total 1.0" in text
    assert 'ct_ops_tasks{state="waiting"}' in text

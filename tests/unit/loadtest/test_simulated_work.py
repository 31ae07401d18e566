"""What virtual agents answer when the server asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.plan import Plan
from ct_ops_loadtest.simulated_work import SimulatedWork, Step
from ct_ops_proto.agent.v1 import ingest_pb2 as wire

PLAN = Plan("x")


def working(**changes: Any) -> SimulatedWork:
    return SimulatedWork(3, replace(PLAN, **changes), Tally())


def steps(work: SimulatedWork, **asked: Any) -> list[Step]:
    work.take(wire.HeartbeatResponse(ok=True, **asked), "agent-1")
    taken = []
    while (step := work.next_step()) is not None:
        taken.append(step)
    return taken


def inventory(task_id: str = "t1") -> wire.AgentTask:
    return wire.AgentTask(task_id=task_id, task_type="software_inventory")


def test_an_inventory_has_output_an_upload_and_a_result() -> None:
    """Two to four pieces, then a thousand packages whose last chunk says so, then exit code 0."""
    *progress, upload, result = steps(working(), pending_task=inventory())

    assert 2 <= len(progress) <= 4
    assert ["t1"] * len(progress) == [step.fields["task_progress"][0].task_id for step in progress]
    assert [(False, 500), (True, 500)] == [(chunk.is_last, len(chunk.packages)) for chunk in upload.upload]
    assert {("t1", "agent-1")} == {(chunk.scan_id, chunk.agent_id) for chunk in upload.upload}
    assert ("t1", 0) == (result.fields["task_results"][0].task_id, result.fields["task_results"][0].exit_code)


def test_another_task_is_refused_as_existing_agents_do() -> None:
    """Exit code -1, and nothing else."""
    (step,) = steps(working(), pending_task=wire.AgentTask(task_id="t2", task_type="reboot"))

    assert -1 == step.fields["task_results"][0].exit_code
    assert "unknown task type: reboot" == step.fields["task_results"][0].error


def test_a_task_or_query_that_is_sent_again_is_done_once() -> None:
    """Servers repeat what was not answered yet."""
    work = working()
    query = wire.AgentQuery(query_id="q1", query_type="list_ports")

    assert 1 == len(steps(work, pending_queries=[query]))
    assert [] == steps(work, pending_queries=[query])
    assert steps(work, pending_task=inventory()) != steps(work, pending_task=inventory()) == []


def test_queries_are_answered_with_what_they_ask_for() -> None:
    """Ports or services."""
    kinds = ("list_ports", "list_services")
    queries = [wire.AgentQuery(query_id=kind, query_type=kind) for kind in kinds]
    ports, services = (step.fields["query_results"][0] for step in steps(working(), pending_queries=queries))

    assert (1, 0) == (len(ports.ports), len(ports.services))
    assert (0, 1) == (len(services.ports), len(services.services))


def test_checks_are_run_when_they_are_due_and_fail_as_often_as_planned() -> None:
    """Each on its interval; one that the server took back runs no more."""
    work = working(check_failure_rate=0.3)
    checks = [
        wire.CheckDefinition(check_id="a", interval_seconds=10),
        wire.CheckDefinition(check_id="b", interval_seconds=30),
    ]
    steps(work, checks=checks)
    due = [work.results_due(now_s) for now_s in range(0, 60, 10)]
    ran = [[result.check_id for result in fields.get("check_results", ())] for fields in due]

    assert [["a", "b"], ["a"], ["a"], ["a", "b"], ["a"], ["a"]] == ran
    steps(work, checks=checks[:1])
    assert ["a"] == [result.check_id for result in work.results_due(90.0)["check_results"]]
    many = [work.results_due(100.0 + 10 * turn)["check_results"][0].status for turn in range(500)]
    assert 100 < many.count("fail") < 200


def test_work_can_be_switched_off() -> None:
    """A run that measures heartbeats alone."""
    work = working(simulate_checks=False, simulate_tasks=False)

    assert [] == steps(
        work, checks=[wire.CheckDefinition(check_id="a", interval_seconds=1)], pending_task=inventory()
    )
    assert {} == work.results_due(0.0)
    (refused,) = steps(working(simulate_inventory=False), pending_task=inventory())
    assert -1 == refused.fields["task_results"][0].exit_code

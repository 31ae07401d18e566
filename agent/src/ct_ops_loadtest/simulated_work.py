"""What virtual agents do for the server: synthetic results of checks, answers to queries, and tasks. Pure but for the clock.

Existing agents put results into frames; so do these. Checks that are due ride with the next heartbeat; a query is answered and a
task reported at once, step by step: two to four frames with output, then the result. A ``software_inventory`` uploads two chunks
of 500 packages; any other task is answered with -1, as existing agents do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.plan import Plan, share_of
from ct_ops_proto.agent.v1 import ingest_pb2 as wire

INVENTORY = "software_inventory"
_CHUNKS, _PACKAGES = 2, 500


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to send: fields of a frame, or an upload."""

    fields: dict[str, Any] = field(default_factory=dict)
    upload: tuple[wire.SoftwareInventoryChunk, ...] = ()


class SimulatedWork:
    """The work of one agent. Made with the first thing that the server asks of it."""

    def __init__(self, number: int, plan: Plan, tally: Tally) -> None:
        self._number = number
        self._plan = plan
        self._tally = tally
        self._every_s: dict[str, int] = {}
        self._ran_s: dict[str, float] = {}
        self._runs = 0
        self._taken: set[str] = set()
        self._steps: deque[Step] = deque()

    def take(self, reply: wire.HeartbeatResponse, agent_id: str) -> None:
        """Take what a reply asks for."""
        if reply.checks and self._plan.simulate_checks:
            self._every_s = {check.check_id: max(1, check.interval_seconds) for check in reply.checks}
        if not self._plan.simulate_tasks:
            return
        for query in reply.pending_queries:
            if self._is_new(query.query_id):
                self._steps.append(Step({"query_results": [_answer(query)]}))
                self._tally.did("answers to queries")
        if reply.HasField("pending_task") and self._is_new(reply.pending_task.task_id):
            self._steps.extend(self._task(reply.pending_task, agent_id))
            self._tally.did("tasks")

    def next_step(self) -> Step | None:
        """Return what is to be sent now, once."""
        return self._steps.popleft() if self._steps else None

    def results_due(self, now_s: float) -> dict[str, Any]:
        """Return the results of checks that are due, as fields of a frame."""
        due = [
            check
            for check, every_s in self._every_s.items()
            if now_s - self._ran_s.get(check, -every_s) >= every_s
        ]
        if not due:
            return {}
        kept = {check: ran_s for check, ran_s in self._ran_s.items() if check in self._every_s}
        self._ran_s = kept | dict.fromkeys(due, now_s)
        self._tally.did("results of checks", len(due))
        return {"check_results": [self._result(check) for check in due]}

    def _result(self, check: str) -> wire.CheckResult:
        self._runs += 1
        chance = share_of(self._plan.seed, "check", self._number, self._runs)
        status = "fail" if chance < self._plan.check_failure_rate else "pass"
        return wire.CheckResult(
            check_id=check, status=status, output="load test", duration_ms=3, ran_at_unix=int(time.time())
        )

    def _is_new(self, number: str) -> bool:
        is_new = number not in self._taken
        self._taken.add(number)
        return is_new

    def _task(self, task: wire.AgentTask, agent_id: str) -> Iterator[Step]:
        result = wire.AgentTaskResult(task_id=task.task_id, task_type=task.task_type)
        if task.task_type == INVENTORY and self._plan.simulate_inventory:
            pieces = 2 + int(3 * share_of(self._plan.seed, "task", self._number, task.task_id))
            for piece in range(1, pieces + 1):
                progress = wire.AgentTaskProgress(task_id=task.task_id, output_chunk=f"step {piece}\n")
                yield Step({"task_progress": [progress]})
            yield Step(upload=_inventory(task.task_id, agent_id))
            result.result_json = f'{{"package_count": {_CHUNKS * _PACKAGES}}}'
            self._tally.did("packages", _CHUNKS * _PACKAGES)
        else:
            result.exit_code, result.error = -1, f"unknown task type: {task.task_type}"
        yield Step({"task_results": [result]})


def _answer(query: wire.AgentQuery) -> wire.AgentQueryResult:
    answer = wire.AgentQueryResult(query_id=query.query_id, query_type=query.query_type, status="ok")
    if query.query_type == "list_ports":
        answer.ports.add(port=22, protocol="tcp", process="sshd")
    else:
        answer.services.add(name="ssh.service", load_state="loaded", active_sub="running")
    return answer


def _inventory(task_id: str, agent_id: str) -> tuple[wire.SoftwareInventoryChunk, ...]:
    return tuple(
        wire.SoftwareInventoryChunk(
            scan_id=task_id,
            agent_id=agent_id,
            source="dpkg",
            chunk_index=chunk,
            is_last=chunk == _CHUNKS - 1,
            packages=[
                wire.SoftwarePackage(name=f"package-{chunk}-{number}", version="1.0-1", architecture="amd64")
                for number in range(_PACKAGES)
            ],
        )
        for chunk in range(_CHUNKS)
    )

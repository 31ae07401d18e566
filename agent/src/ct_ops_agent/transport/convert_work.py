"""Work ⇄ protobuf: what a server asks, and what comes of it. Pure, as `convert` is.

Ids and kinds are made printable; a configuration stays as it was sent, up to 64 KiB, and is parsed by
whoever does the work: a longer one is cut and so refused there.

Field 7 (``checks``) means something only when it is not empty, and only from a server that did not name
the feature ``definitions``: existing ones leave it empty in every frame they push.
"""

from __future__ import annotations

from ct_ops_agent.transport.texts import printable, storable
from ct_ops_agent.work import (
    CheckDefinition,
    CheckResult,
    InventoryChunk,
    Query,
    QueryResult,
    Task,
    TaskProgress,
    TaskResult,
    Work,
)
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

_LONGEST_CONFIG = 64 * 1024
_SHORTEST_INTERVAL_S = 1
_LARGEST_INT32 = 2**31 - 1


def from_work(message: pb.HeartbeatResponse, *, knows_definitions: bool) -> Work:
    """Return what a frame of the server asks for."""
    return Work(
        checks=_from_checks(message, knows_definitions=knows_definitions),
        queries=tuple(
            Query(printable(query.query_id), printable(query.query_type)) for query in message.pending_queries
        ),
        task=_from_task(message.pending_task) if message.HasField("pending_task") else None,
        cancelled_task_ids=tuple(map(printable, message.cancel_task_ids)),
    )


def to_check_result(result: CheckResult) -> pb.CheckResult:
    """Return the message."""
    return pb.CheckResult(
        check_id=result.check_id,
        status=result.status.value,
        output=storable(result.output),
        duration_ms=min(result.duration_ms, _LARGEST_INT32),
        ran_at_unix=result.ran_at_ms // 1000,
        ran_at_ms=result.ran_at_ms,
    )


def to_query_result(result: QueryResult) -> pb.AgentQueryResult:
    """Return the message."""
    return pb.AgentQueryResult(
        query_id=result.query_id,
        query_type=result.query_type,
        status="error" if result.error else "ok",
        error=storable(result.error),
        ports=[
            pb.PortInfo(port=port.port, protocol=port.protocol, process=storable(port.process))
            for port in result.ports
        ],
        services=[
            pb.ServiceInfo(
                name=storable(service.name),
                load_state=storable(service.load_state),
                active_sub=storable(service.active_sub),
            )
            for service in result.services
        ],
    )


def to_task_progress(progress: TaskProgress) -> pb.AgentTaskProgress:
    """Return the message."""
    return pb.AgentTaskProgress(
        task_id=progress.task_id,
        output_chunk=storable(progress.chunk),
        attempt=progress.attempt,
        offset=progress.offset,
    )


def to_task_result(result: TaskResult) -> pb.AgentTaskResult:
    """Return the message."""
    return pb.AgentTaskResult(
        task_id=result.task_id,
        task_type=result.task_type,
        exit_code=result.exit_code,
        result_json=storable(result.result_json),
        error=storable(result.error),
        attempt=result.attempt,
        refused=result.refused,
    )


def to_inventory_chunk(chunk: InventoryChunk, agent_id: str) -> pb.SoftwareInventoryChunk:
    """Return the message."""
    return pb.SoftwareInventoryChunk(
        scan_id=chunk.task_id,
        agent_id=agent_id,
        source=chunk.source,
        chunk_index=chunk.index,
        is_last=chunk.is_last,
        packages=[
            pb.SoftwarePackage(
                name=storable(package.name),
                version=storable(package.version),
                architecture=storable(package.architecture),
                publisher=storable(package.publisher),
                install_date_unix=package.installed_at_unix,
            )
            for package in chunk.packages
        ],
        attempt=chunk.attempt,
    )


def _from_checks(
    message: pb.HeartbeatResponse, *, knows_definitions: bool
) -> tuple[CheckDefinition, ...] | None:
    if message.HasField("definitions"):
        return tuple(map(_from_check, message.definitions.checks))
    if message.checks and not knows_definitions:
        return tuple(map(_from_check, message.checks))
    return None


def _from_check(check: pb.CheckDefinition) -> CheckDefinition:
    return CheckDefinition(
        check_id=printable(check.check_id),
        check_type=printable(check.check_type),
        config_json=check.config_json[:_LONGEST_CONFIG],
        interval_s=max(check.interval_seconds, _SHORTEST_INTERVAL_S),
        timeout_s=check.timeout_ms / 1000,
    )


def _from_task(task: pb.AgentTask) -> Task:
    return Task(
        task_id=printable(task.task_id),
        task_type=printable(task.task_type),
        config_json=task.config_json[:_LONGEST_CONFIG],
        attempt=task.attempt,
    )

"""Work as the wire says it, for our agents and for existing ones. Pure.

An agent of ours that named the feature ``definitions`` gets its checks in the field that can also say
"none"; an existing agent gets them in the field it knows, where an empty list means nothing to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.fleet import check_delivery
from ct_ops_server.fleet.work import AskedTask, CheckDefinition, NewLeaf, Work

DEFINITIONS = check_delivery.FEATURE
"""The feature of agents that mind ``HeartbeatResponse.definitions``."""


def push_message(work: Work, features: frozenset[str]) -> wire.HeartbeatResponse:
    """Return a frame that nobody asked for. It carries no server time: by that ours tell it from a reply."""
    message = wire.HeartbeatResponse(
        ok=True,
        pending_queries=[
            wire.AgentQuery(query_id=query.query_id, query_type=query.query_type) for query in work.queries
        ],
        pending_task=None if work.task is None else _task(work.task),
        cancel_task_ids=work.cancelled_task_ids,
    )
    if work.new_leaf is not None:
        _add_leaf(message, work.new_leaf)
    if work.checks is not None:
        if DEFINITIONS in features:
            message.definitions.CopyFrom(wire.Definitions(checks=_checks(work.checks)))
        else:
            message.checks.extend(_checks(work.checks))
    return message


def _add_leaf(message: wire.HeartbeatResponse, leaf: NewLeaf) -> None:
    message.renew_leaf = not leaf.pem
    message.pending_client_cert_pem = leaf.pem
    message.pending_client_cert_not_after_unix = leaf.not_after_unix
    message.agent_ca_cert_pem = leaf.authority_pem


def _task(task: AskedTask) -> wire.AgentTask:
    return wire.AgentTask(
        task_id=task.task_id, task_type=task.task_type, config_json=task.config_json, attempt=task.attempt
    )


def _checks(checks: Iterable[CheckDefinition]) -> list[wire.CheckDefinition]:
    return [
        wire.CheckDefinition(
            check_id=check.check_id,
            check_type=check.check_type,
            config_json=check.config_json,
            interval_seconds=check.interval_s,
            timeout_ms=check.timeout_ms,
        )
        for check in checks
    ]

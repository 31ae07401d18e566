"""Pushed frames, for our agents and for existing ones."""

from __future__ import annotations

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.edge.work_messages import push_message
from ct_ops_server.fleet.work import AskedQuery, AskedTask, CheckDefinition, Work

OURS = frozenset({"definitions", "attempts"})
CHECK = CheckDefinition("c1", "port", '{"port": 22}', 60, 5_000)


def test_everything_that_is_asked_is_in_the_frame() -> None:
    """With the attempt, that an existing agent does not know and does not mind."""
    work = Work(
        queries=(AskedQuery("q1", "list_ports"),),
        task=AskedTask("t1", "software_inventory", "{}", 2),
        cancelled_task_ids=("t0",),
    )
    message = push_message(work, frozenset())

    assert message.ok
    assert [wire.AgentQuery(query_id="q1", query_type="list_ports")] == list(message.pending_queries)
    assert message.pending_task == wire.AgentTask(
        task_id="t1", task_type="software_inventory", config_json="{}", attempt=2
    )
    assert ["t0"] == list(message.cancel_task_ids)
    assert not message.HasField("definitions")


def test_our_agents_tell_a_pushed_frame_from_a_reply() -> None:
    """A reply says the server's time."""
    assert not push_message(Work(checks=()), OURS).HasField("welcome")
    assert 0 == push_message(Work(checks=()), OURS).server_time_ms


def test_checks_go_where_the_agent_looks_for_them() -> None:
    """Ours can also hear that there are none."""
    ours, existing = (
        push_message(Work(checks=(CHECK,)), OURS),
        push_message(Work(checks=(CHECK,)), frozenset()),
    )

    assert list(ours.definitions.checks) == list(existing.checks)
    assert ([], False) == (list(ours.checks), existing.HasField("definitions"))
    assert push_message(Work(checks=()), OURS).HasField("definitions")

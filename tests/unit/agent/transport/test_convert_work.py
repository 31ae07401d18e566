"""Work and results ⇄ protobuf."""

import pytest

from ct_ops_agent.control_plane import HeartbeatFrame
from ct_ops_agent.host import HostFacts
from ct_ops_agent.samples import CollectorState
from ct_ops_agent.transport.convert import from_heartbeat_response, to_heartbeat_request
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_agent.transport.convert_work import to_inventory_chunk
from ct_ops_agent.vitals import Vitals
from ct_ops_agent.work import (
    CheckDefinition,
    CheckResult,
    CheckStatus,
    InventoryChunk,
    OpenPort,
    Query,
    QueryResult,
    ServiceState,
    SoftwarePackage,
    Task,
    TaskAccepted,
    TaskProgress,
    TaskResult,
    Work,
)
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

FACTS = HostFacts("host", "linux", "arm64", "Debian", "boot-1")
VITALS = Vitals(12.5, 25.0, 50.0, 3600, (), ())
CHECK = pb.CheckDefinition(
    check_id="c1", check_type="port", config_json='{"port":1}', interval_seconds=30, timeout_ms=1500
)
PORT_CHECK = CheckDefinition("c1", "port", '{"port":1}', 30, 1.5)


@pytest.mark.parametrize(
    ("message", "knows_definitions", "expected"),
    [
        (pb.HeartbeatResponse(), False, None),
        (pb.HeartbeatResponse(checks=[CHECK]), False, (PORT_CHECK,)),
        (pb.HeartbeatResponse(checks=[CHECK]), True, None),
        (pb.HeartbeatResponse(definitions=pb.Definitions()), True, ()),
        (pb.HeartbeatResponse(definitions=pb.Definitions(checks=[CHECK])), True, (PORT_CHECK,)),
    ],
)
def test_checks_are_the_full_list_or_no_news(
    message: pb.HeartbeatResponse,
    knows_definitions: bool,  # noqa: FBT001 - a parameter of a table
    expected: tuple[CheckDefinition, ...] | None,
) -> None:
    """An existing server's empty field 7 stops nothing; only ``definitions`` can say that nothing is to run."""
    assert expected == from_heartbeat_response(message, knows_definitions=knows_definitions).work.checks


def test_a_frame_may_ask_for_several_things() -> None:
    """Queries, one task, and tasks to be stopped."""
    message = pb.HeartbeatResponse(
        pending_queries=[pb.AgentQuery(query_id="q1\n", query_type="list_ports")],
        pending_task=pb.AgentTask(task_id="t1", task_type="software_inventory", config_json="{}", attempt=2),
        cancel_task_ids=["t0"],
    )

    expected = Work(None, (Query("q1 ", "list_ports"),), Task("t1", "software_inventory", "{}", 2), ("t0",))
    assert expected == from_heartbeat_response(message).work


def test_a_frame_without_wishes_asks_for_nothing() -> None:
    """And is told apart from one with an empty list of checks."""
    assert not from_heartbeat_response(pb.HeartbeatResponse(ok=True)).work
    assert from_heartbeat_response(pb.HeartbeatResponse(definitions=pb.Definitions())).work


def test_an_interval_of_zero_does_not_make_a_busy_agent() -> None:
    """Attack: a check that would run all the time runs once a second."""
    message = pb.HeartbeatResponse(checks=[pb.CheckDefinition(check_id="c", interval_seconds=-5)])

    checks = from_heartbeat_response(message).work.checks
    assert checks is not None
    assert 1 == checks[0].interval_s


def test_results_travel_in_a_frame_to_a_server_that_takes_no_batches() -> None:
    """Fields 13 to 16; that a task was accepted has no field there."""
    results = (
        CheckResult("c1", CheckStatus.FAIL, "no\udcff", 2**40, 1_800_000_000_500),
        QueryResult("q1", "list_ports", ports=(OpenPort(22, "tcp", "sshd"),)),
        QueryResult(
            "q2", "list_services", "no systemd", services=(ServiceState("a", "loaded", "active/running"),)
        ),
        TaskAccepted("t1", 1),
        TaskProgress("t1", 1, 3, "abc"),
        TaskResult("t1", "software_inventory", 1, -1, error="cut", refused="interrupted"),
    )

    items = b"".join(ItemCodec().encode_result(result) for result in results)
    message = to_heartbeat_request(HeartbeatFrame("a", 0, "1.0", FACTS, VITALS, items=items))

    check = message.check_results[0]
    assert ("c1", "fail", "no?", 2**31 - 1, 1_800_000_000) == (
        check.check_id,
        check.status,
        check.output,
        check.duration_ms,
        check.ran_at_unix,
    )
    assert ["ok", "error"] == [query.status for query in message.query_results]
    assert ("abc", 3) == (message.task_progress[0].output_chunk, message.task_progress[0].offset)
    assert ("cut", -1) == (message.task_results[0].error, message.task_results[0].exit_code)


def test_a_frame_says_which_collectors_run_when_there_is_news() -> None:
    """None at all and no news are different things."""
    some = HeartbeatFrame("a", 0, "1.0", FACTS, VITALS, collectors=(CollectorState("cpu", 1.5, "no"),))
    none = HeartbeatFrame("a", 0, "1.0", FACTS, VITALS, collectors=())
    no_news = HeartbeatFrame("a", 0, "1.0", FACTS, VITALS)

    assert [pb.CollectorState(name="cpu", interval_ms=1500, problem="no")] == list(
        to_heartbeat_request(some).collectors.collectors
    )
    assert [True, False] == [to_heartbeat_request(each).HasField("collectors") for each in (none, no_news)]


def test_a_chunk_of_a_scan_names_task_and_attempt() -> None:
    """The scan's id is the task's."""
    package = SoftwarePackage("bash", "5.2", "amd64", "Debian", 1_700_000_000)

    message = to_inventory_chunk(
        InventoryChunk("t1", 2, "dpkg", 4, is_last=True, packages=(package,)), "agent-1"
    )

    assert ("t1", "agent-1", 2, 4, True) == (
        message.scan_id,
        message.agent_id,
        message.attempt,
        message.chunk_index,
        message.is_last,
    )
    assert ("bash", 1_700_000_000) == (message.packages[0].name, message.packages[0].install_date_unix)

"""What agents deliver, made storable or refused by index; hostile messages included."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.edge.items import (
    MOST_ITEMS,
    collectors_of,
    items_of_batch,
    items_of_frame,
    storable_output,
)
from ct_ops_server.fleet.items import (
    CheckResult,
    CheckStatus,
    CollectorState,
    Gap,
    OpenPort,
    QueryResult,
    Sample,
    ServiceState,
    TaskAccepted,
    TaskProgress,
    TaskResult,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY_MS = 86_400_000
YEAR_2000_MS = 946_684_800_000


def batch(**body: object) -> bytes:
    return wire.BatchBody(**body).SerializeToString()  # type: ignore[arg-type]


def test_every_type_of_item_becomes_a_value() -> None:
    """Indexed over results, then samples, then gaps."""
    payload = batch(
        results=[
            wire.ResultItem(
                check_result=wire.CheckResult(
                    check_id="c", status="fail", output="refused\n", duration_ms=7, ran_at_ms=NOW_MS
                )
            ),
            wire.ResultItem(
                query_result=wire.AgentQueryResult(
                    query_id="q",
                    query_type="list_ports",
                    status="ok",
                    ports=[wire.PortInfo(port=22, protocol="tcp", process="sshd")],
                    services=[wire.ServiceInfo(name="ssh", load_state="loaded", active_sub="active/running")],
                )
            ),
            wire.ResultItem(task_accepted=wire.TaskAccepted(task_id="t", attempt=2)),
            wire.ResultItem(
                task_progress=wire.AgentTaskProgress(
                    task_id="t", attempt=2, offset=2**63 - 1, output_chunk="…\tdone\n"
                )
            ),
            wire.ResultItem(
                task_result=wire.AgentTaskResult(
                    task_id="t", task_type="software_inventory", attempt=2, exit_code=-1, error="no dpkg"
                )
            ),
        ],
        samples=[wire.Sample(series='disk.used_bytes{mount="/"}', ts_ms=NOW_MS, value=-1.5, unit="bytes")],
        gaps=[wire.Gap(type="samples", count=3, from_ms=NOW_MS, to_ms=NOW_MS + 1, reason="space")],
    )
    received = items_of_batch(payload, NOW)

    assert () == received.malformed
    assert (
        (0, CheckResult("c", CheckStatus.FAIL, "refused\n", 7, NOW_MS)),
        (
            1,
            QueryResult(
                "q",
                "list_ports",
                "",
                (OpenPort(22, "tcp", "sshd"),),
                (ServiceState("ssh", "loaded", "active/running"),),
            ),
        ),
        (2, TaskAccepted("t", 2)),
        (3, TaskProgress("t", 2, 2**63 - 1, "…\tdone\n")),
        (4, TaskResult("t", "software_inventory", 2, -1, "", "no dpkg", "")),
        (5, Sample('disk.used_bytes{mount="/"}', NOW_MS, -1.5, "bytes")),
        (6, Gap("samples", 3, NOW_MS, NOW_MS + 1, "space")),
    ) == received.items


def test_existing_agents_results_have_seconds_no_offsets_and_no_attempts() -> None:
    """Fields 13 to 16 of a frame, in this order."""
    frame = wire.HeartbeatRequest(
        check_results=[wire.CheckResult(check_id="c", status="pass", ran_at_unix=NOW_MS // 1000)],
        query_results=[wire.AgentQueryResult(query_id="q", status="error", error="no ss")],
        task_progress=[wire.AgentTaskProgress(task_id="t", output_chunk="x")],
        task_results=[wire.AgentTaskResult(task_id="t", task_type="software_inventory")],
    )

    assert (
        (0, CheckResult("c", CheckStatus.PASS, "", 0, NOW_MS)),
        (1, QueryResult("q", "", "no ss")),
        (2, TaskProgress("t", 0, None, "x")),
        (3, TaskResult("t", "software_inventory", 0, 0, "", "", "")),
    ) == items_of_frame(frame, NOW).items


def test_a_query_that_failed_without_a_word_still_failed() -> None:
    """An empty error would read as success."""
    frame = wire.HeartbeatRequest(query_results=[wire.AgentQueryResult(query_id="q", status="error")])
    ((_, result),) = items_of_frame(frame, NOW).items

    assert isinstance(result, QueryResult)
    assert "the agent gave no reason" == result.error


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (wire.Sample(series="cpu", ts_ms=NOW_MS), "malformed"),
        (wire.Sample(series='cpu.used{b="1",a="2"}', ts_ms=NOW_MS), "malformed"),
        (wire.Sample(series='cpu.used{a="\0"}', ts_ms=NOW_MS), "malformed"),
        (wire.Sample(series='cpu.used{a="\x1b[2J"}', ts_ms=NOW_MS), "malformed"),
        (wire.Sample(series='cpu.used{a="\u202e"}', ts_ms=NOW_MS), "malformed"),
        (wire.Sample(series=f'cpu.used{{a="{"x" * 2000}"}}', ts_ms=NOW_MS), "malformed"),
        (wire.Sample(series="cpu.used", ts_ms=NOW_MS, value=math.nan), "malformed"),
        (wire.Sample(series="cpu.used", ts_ms=NOW_MS, value=-math.inf), "malformed"),
        (wire.Sample(series="cpu.used", ts_ms=0), "time_out_of_range"),
        (wire.Sample(series="cpu.used", ts_ms=-(2**63)), "time_out_of_range"),
        (wire.Sample(series="cpu.used", ts_ms=2**63 - 1), "time_out_of_range"),
        (wire.Sample(series="cpu.used", ts_ms=YEAR_2000_MS - 1), "time_out_of_range"),
        (wire.Sample(series="cpu.used", ts_ms=NOW_MS + DAY_MS + 1), "time_out_of_range"),
    ],
)
def test_what_is_no_sample_is_refused_and_not_bent(sample: wire.Sample, reason: str) -> None:
    """Another time, another series or another value would be a lie."""
    received = items_of_batch(batch(samples=[sample]), NOW)

    assert () == received.items
    assert [(0, "sample", reason)] == [(each.index, each.kind, each.reason) for each in received.malformed]
    assert all(each.example.isprintable() and len(each.example) <= 200 for each in received.malformed)


def test_a_day_ahead_is_the_last_time_that_is_believed() -> None:
    """From the year 2000 to a day from now, both included."""
    samples = [wire.Sample(series="cpu.used", ts_ms=at) for at in (YEAR_2000_MS, NOW_MS + DAY_MS)]

    assert 2 == len(items_of_batch(batch(samples=samples), NOW).items)


@pytest.mark.parametrize(
    "result",
    [
        wire.ResultItem(check_result=wire.CheckResult(check_id="c", status="great", ran_at_ms=NOW_MS)),
        wire.ResultItem(check_result=wire.CheckResult(status="pass", ran_at_ms=NOW_MS)),
        wire.ResultItem(check_result=wire.CheckResult(check_id="c\0", status="pass", ran_at_ms=NOW_MS)),
        wire.ResultItem(check_result=wire.CheckResult(check_id="c", status="pass")),
        wire.ResultItem(check_result=wire.CheckResult(check_id="c", status="pass", ran_at_unix=2**62)),
        wire.ResultItem(query_result=wire.AgentQueryResult(query_id="q" * 256)),
        wire.ResultItem(task_accepted=wire.TaskAccepted(task_id="t", attempt=2**31)),
        wire.ResultItem(task_progress=wire.AgentTaskProgress(task_id="t", offset=2**63)),
        wire.ResultItem(task_result=wire.AgentTaskResult(task_id="")),
        wire.ResultItem(),
    ],
)
def test_results_that_cannot_be_stored_are_refused(result: wire.ResultItem) -> None:
    """Ids that are none of ours, a status nobody knows, 2^63, times that cannot be, items of the future."""
    received = items_of_batch(batch(results=[result]), NOW)

    assert () == received.items
    assert 1 == len(received.malformed)


def test_a_host_with_a_wrong_clock_can_still_say_what_it_lost() -> None:
    """Gaps are bent into shape and never refused."""
    gap = wire.Gap(type="sam\0ples", count=2**64 - 1, from_ms=-5, to_ms=2**63 - 1, reason="\x1b[31mspace")
    ((_, kept),) = items_of_batch(batch(gaps=[gap]), NOW).items

    assert Gap("samples", 2**63 - 1, 0, NOW_MS + DAY_MS, "[31mspace") == kept


def test_a_payload_that_is_none_counts_as_one_refused_item() -> None:
    """Its batch has a number; refused as a whole it would come again for ever."""
    received = items_of_batch(b"\xff\xff\xff\xff", NOW)

    assert [(0, "batch", "malformed")] == [
        (each.index, each.kind, each.reason) for each in received.malformed
    ]


def test_a_batch_of_too_many_items_is_stored_as_far_as_it_may_be() -> None:
    """The rest is refused by index, so that its agent goes on."""
    sample = wire.Sample(series="cpu.used", ts_ms=NOW_MS)
    received = items_of_batch(batch(samples=[sample] * (MOST_ITEMS + 2)), NOW)

    assert MOST_ITEMS == len(received.items)
    assert [(MOST_ITEMS, "too_many_items"), (MOST_ITEMS + 1, "too_many_items")] == [
        (each.index, each.reason) for each in received.malformed
    ]


@given(st.text())
def test_an_output_keeps_its_length_and_its_lines_and_commands_no_terminal(text: str) -> None:
    """Chunks of a task lie at offsets of characters."""
    shown = storable_output(text)

    assert len(text) == len(shown)
    assert text.count("\n") == shown.count("\n")
    assert not set(shown) & {chr(code) for code in (*range(9), *range(11, 32), 127, 0x9B, 0x202E)}


def test_half_a_document_is_none() -> None:
    """A result that is too long is left out; its task still ends."""
    frame = wire.HeartbeatRequest(
        task_results=[wire.AgentTaskResult(task_id="t", result_json="[" * (600 * 1024))]
    )
    ((_, result),) = items_of_frame(frame, NOW).items

    assert isinstance(result, TaskResult)
    assert "" == result.result_json


def test_a_report_of_collectors_is_bounded_and_its_last_word_counts() -> None:
    """Names that are none are left out, sentences are clean."""
    said = [
        wire.CollectorState(name="cpu", interval_ms=15_000),
        wire.CollectorState(name="Not A Name", interval_ms=1),
        wire.CollectorState(name="cpu", interval_ms=30_000, problem="gone\x1b[2J"),
        *(wire.CollectorState(name=f"c{number}") for number in range(1_000)),
    ]
    states = collectors_of(wire.CollectorReport(collectors=said))

    assert CollectorState("cpu", 30_000, "gone[2J") == states[0]
    assert len(states) <= 256


@given(st.binary(max_size=300))
def test_no_payload_whatever_makes_it_raise(payload: bytes) -> None:
    """An agent may send anything."""
    received = items_of_batch(payload, NOW)

    assert all(0 <= index for index, _ in received.items)

"""What the status says of delivery and collectors."""

import json
from dataclasses import replace

import pytest

from ct_ops_agent.delivery.courier import DeliveryReport, Mode
from ct_ops_agent.delivery.figures import Figures
from ct_ops_agent.samples import CollectorState
from ct_ops_agent.status.delivery import facts_of_delivery
from ct_ops_agent.status.report import Report, State, parse_report, to_json
from ct_ops_agent.status.text import describe
from ct_ops_agent.status.verdict import judge

NOW = 1_800_000_000.0
MIB = 1024 * 1024
FIGURES = Figures(
    outbox_id=b"o" * 16,
    acked_seq=41,
    acked_at_ms=int(NOW * 1000) - 7_000,
    used_bytes=3 * MIB // 2,
    results=2,
    samples=300,
    batches=1,
    oldest_ms=int(NOW * 1000) - 3_600_000,
    counts=(("sample", "the outbox was full", 12), ("refused", "unknown_check", 1)),
)
STATES = (CollectorState("cpu", 60.0), CollectorState("disk", 60.0, "/srv does not answer"))


def report_of(delivery: DeliveryReport) -> Report:
    facts = facts_of_delivery(delivery, 64 * MIB, STATES)
    return Report(
        pid=7, version="1.0", data_dir="/data", state=State.CONNECTED, since=NOW, written_at=NOW, **facts
    )


def text_of(report: Report) -> str:
    return describe(report, judge(report, alive=True, now=NOW), NOW)


def test_what_waits_and_what_was_dropped_is_shown() -> None:
    """And which collectors do not work, each with its sentence."""
    text = text_of(report_of(DeliveryReport(Mode.NUMBERED, FIGURES, "")))

    expected = """\
  delivery     numbered, last acknowledged 7 s ago
  outbox       1.5 of 64 MiB, waiting: 2 results, 300 samples, 1 batches, the oldest from 60 min ago
  dropped      12 sample: the outbox was full
  dropped      1 refused: unknown_check
  collector    disk: /srv does not answer
"""
    assert expected in text


def test_a_server_without_numbered_delivery_is_named_as_such() -> None:
    """Nobody should believe that results are safe there."""
    figures = replace(FIGURES, acked_at_ms=None, results=0, samples=0, batches=0, oldest_ms=None)
    text = text_of(report_of(DeliveryReport(Mode.AT_MOST_ONCE, figures, "")))

    assert "delivery     at most once: this server knows no numbered delivery\n" in text
    assert "outbox       1.5 of 64 MiB, nothing waits" in text


def test_a_disk_that_cannot_be_written_is_told_with_what_to_do() -> None:
    """Results are in memory only, which somebody must know."""
    assert "make room on that disk" in text_of(
        report_of(DeliveryReport(Mode.NUMBERED, FIGURES, "full: make room on that disk"))
    )


@pytest.mark.parametrize("mode", list(Mode))
def test_the_file_keeps_it_all(mode: Mode) -> None:
    """What is written is what is read."""
    report = report_of(DeliveryReport(mode, FIGURES, "full"))

    assert report == parse_report(to_json(report))


@pytest.mark.parametrize(
    "damage", [{"outbox_bytes": "x"}, {"dropped": 5}, {"delivery": 5}, {"delivered_at": "yesterday"}]
)
def test_a_damaged_report_is_none(damage: dict[str, object]) -> None:
    """As for every other field."""
    document = json.loads(to_json(report_of(DeliveryReport(Mode.NUMBERED, FIGURES, "")))) | damage
    assert parse_report(json.dumps(document)) is None


def test_an_agent_without_an_outbox_says_nothing_of_one() -> None:
    """A report of an older version."""
    report = Report(pid=7, version="1.0", data_dir="/d", state=State.CONNECTED, since=NOW, written_at=NOW)

    assert "outbox" not in text_of(report)

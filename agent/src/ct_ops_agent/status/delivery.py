"""What the status file says of delivery and collectors: fields of the report, and the lines that show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ct_ops_agent.samples import CollectorState
from ct_ops_agent.status.report import Report

if TYPE_CHECKING:  # `status` of another process has no use for an outbox
    from ct_ops_agent.delivery.courier import DeliveryReport

_MIB = 1024 * 1024


def facts_of_delivery(
    delivery: DeliveryReport, max_bytes: int, states: Sequence[CollectorState] = ()
) -> dict[str, Any]:
    """Return the fields of `Report` that delivery and collectors know."""
    figures = delivery.figures
    return {
        "delivery": delivery.mode.value,
        "delivered_at": _seconds(figures.acked_at_ms),
        "delivered_batches": figures.acked_seq,
        "outbox_bytes": figures.used_bytes,
        "outbox_max_bytes": max_bytes,
        "outbox_results": figures.results,
        "outbox_samples": figures.samples,
        "outbox_batches": figures.batches,
        "outbox_oldest": _seconds(figures.oldest_ms),
        "outbox_problem": delivery.problem,
        "dropped": tuple(f"{count} {what}: {reason}" for what, reason, count in figures.counts),
        "collector_problems": tuple(f"{state.name}: {state.problem}" for state in states if state.problem),
    }


def delivery_lines(report: Report, ago: str, oldest: str) -> Iterator[tuple[str, str]]:
    """Yield the lines for a human: label and text.

    Args:
        report: of an agent.
        ago: how long ago the last batch was acknowledged; empty: none was.
        oldest: the age of the oldest item that waits; empty: none does.
    """
    if not report.delivery:
        return
    yield "delivery", f"{report.delivery}, last acknowledged {ago}" if ago else report.delivery
    yield "outbox", _outbox(report, oldest)
    if report.outbox_problem:
        yield "", report.outbox_problem
    for line in report.dropped:
        yield "dropped", line
    for line in report.collector_problems:
        yield "collector", line


def _outbox(report: Report, oldest: str) -> str:
    size = f"{report.outbox_bytes / _MIB:.1f} of {report.outbox_max_bytes / _MIB:.0f} MiB"
    waiting = [
        f"{count} {what}"
        for count, what in (
            (report.outbox_results, "results"),
            (report.outbox_samples, "samples"),
            (report.outbox_batches, "batches"),
        )
        if count
    ]
    if not waiting:
        return f"{size}, nothing waits"
    return f"{size}, waiting: {', '.join(waiting)}" + (f", the oldest from {oldest}" if oldest else "")


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000

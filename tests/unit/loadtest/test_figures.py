"""What a run counts, and when it counts as a success."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ct_ops_loadtest.figures import MOST_SENTENCES, OTHERS, Tally, live_line, summary


def good() -> Tally:
    tally = Tally(agents=2, registered=2, registering_s=0.5, connected=2, streams=2, held=10, held_s=2.0)
    for _ in range(9):
        tally.round_trips.add(0.02)
    tally.round_trips.add(0.5)
    return tally


def test_figures_are_rates_and_milliseconds() -> None:
    """Ten heartbeats in two seconds are five a second; every percentile of the round trip, and the longest."""
    figures = good().figures()

    assert (4.0, 5.0) == (figures["registrations_per_s"], figures["heartbeats_per_s"])
    assert 20.0 == pytest.approx(figures["p50_ms"], rel=1 / 64)
    assert (500.0, 500.0) == (figures["p99_ms"], figures["max_ms"])
    assert {"p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99.9_ms", "max_ms"} <= figures.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"failed": 1, "registered": 1, "connected": 1},
        {"pending": 1, "registered": 1, "connected": 1},
        {"refused": 1},
        {"broken": 1},
        {"unanswered": 1},
        {"connected": 1},
    ],
)
def test_whatever_was_not_served_makes_the_run_a_failure(changes: dict[str, Any]) -> None:
    """A refusal must not hide behind good percentiles."""
    tally = good()
    assert tally.served
    for name, value in changes.items():
        setattr(tally, name, value)

    assert not tally.served


def test_what_the_plan_or_the_server_asked_for_is_no_failure() -> None:
    """Cuts of the plan, and agents that were asked to come a little later."""
    tally = good()
    tally.cut, tally.put_off = 5, 7

    assert tally.served


def test_sentences_without_end_are_counted_together() -> None:
    """A server that names an id in each does not fill the memory."""
    tally = Tally()
    for number in range(MOST_SENTENCES + 10):
        tally.failure(f"agent {number} is unknown")
    tally.failure("agent 0 is unknown")

    assert MOST_SENTENCES + 1 == len(tally.failures)
    assert (2, 10) == (tally.failures["agent 0 is unknown"], tally.failures[OTHERS])


def test_tallies_of_several_processes_add_up() -> None:
    """Counts are added, times are those of the slowest, and all of it passes through JSON."""
    one, other = good(), good()
    other.registering_s, other.failures, other.work = 2.0, {"full": 3}, {"tasks": 1}
    one.failures = {"full": 1}
    one.merge(msgspec.json.decode(msgspec.json.encode(other), type=Tally))

    assert (4, 4, 20, 2.0) == (one.agents, one.registered, one.held, one.registering_s)
    assert (20, {"full": 4}, {"tasks": 1}) == (one.round_trips.count, one.failures, one.work)


def test_the_live_line_is_the_one_that_existing_tools_print() -> None:
    """Registrations, streams, heartbeats, the 95th percentile, recent errors."""
    line = live_line(30, good(), recent_failures=3)

    assert line.startswith(
        "[  30s] regs: 2 active / 0 pend / 0 fail | streams: 2 | hb: 0 sent (0 failed) | rtt p95: "
    )
    assert line.endswith("ms | recent errors: 3")


def test_the_summary_names_every_sort_of_failure() -> None:
    """With how often, beside what the run was for."""
    tally = good()
    tally.failures = {"UNAVAILABLE: full": 3}
    tally.reconnecting.add(1.5)
    tally.slow_round_trips.add(3.0)
    tally.did("tasks", 2)
    text = summary(tally)

    assert "3 times: UNAVAILABLE: full" in text
    assert "reconnecting    1 times" in text
    assert "slow agents     p50" in text
    assert "2 tasks" in text


def test_a_run_in_which_nothing_was_served_has_figures() -> None:
    """No division by the time or number of what did not happen."""
    figures = Tally(failures={"UNAVAILABLE: refused": 3}).figures()

    assert (0, 0, 0.0) == (figures["registrations_per_s"], figures["heartbeats_per_s"], figures["p99_ms"])
    assert "0 of 0 registered" in summary(Tally())

"""Healthy means delivered: each reason, and when it is none yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ct_ops_server.fleet.check_model import CheckFreshness
from ct_ops_server.fleet.delivery import RefusedItems, StoredGap
from ct_ops_server.fleet.health import CollectorHealth, HealthFacts, Reason, ReasonCode, reasons
from ct_ops_server.fleet.health_watch import agents_by_reason
from ct_ops_server.fleet.items import Gap

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CPU = CollectorHealth("cpu", MINUTE, running_since=NOW - timedelta(days=1), newest_at=NOW - MINUTE)
CHECK = CheckFreshness("a", "c1", "postgres", MINUTE, NOW - timedelta(days=1), NOW - MINUTE, NOW - MINUTE)


def facts(**changes: object) -> HealthFacts:
    known = HealthFacts("a", NOW, connected_at=NOW - timedelta(hours=5), collectors=[CPU], checks=[CHECK])
    return replace(known, **changes)  # type: ignore[arg-type]


def codes(known: HealthFacts) -> list[ReasonCode]:
    return [reason.code for reason in reasons(known)]


def test_a_host_whose_data_comes_is_healthy() -> None:
    """Data of a minute ago, of everything that should come."""
    assert () == reasons(facts())


@pytest.mark.parametrize(
    ("interval_s", "age_s", "is_silent"),
    [(60, 180, False), (60, 181, True), (1, 120, False), (1, 121, True), (3600, 10_800, False)],
)
def test_a_collector_is_missed_after_three_intervals_and_two_minutes(
    interval_s: int, age_s: int, *, is_silent: bool
) -> None:
    """The longer of the two: a collector of every second may hiccup, one of every hour has its hours."""
    collector = replace(CPU, interval=timedelta(seconds=interval_s), newest_at=NOW - timedelta(seconds=age_s))

    assert [ReasonCode.COLLECTOR_SILENT] * is_silent == codes(facts(collectors=[collector]))


def test_the_reason_says_which_and_how_long() -> None:
    """An operator reads the sentence first."""
    stale = replace(CPU, newest_at=NOW - timedelta(hours=3))

    assert (
        Reason(ReasonCode.COLLECTOR_SILENT, "cpu", "collector cpu: its newest samples are 3 hours old"),
    ) == reasons(facts(collectors=[stale]))


def test_a_collector_that_never_delivered_is_missed_too() -> None:
    """Not only one that stopped."""
    (reason,) = reasons(facts(collectors=[replace(CPU, newest_at=None)]))

    assert ReasonCode.COLLECTOR_SILENT is reason.code
    assert "has delivered no samples since it was started or the host connected, 5 hours ago" in (
        reason.sentence
    )


def test_a_wrong_clock_of_the_host_is_no_silence() -> None:
    """Its samples are as old as its own clock says, whichever year it thinks it is."""
    for skew in (timedelta(days=-400), timedelta(days=1)):
        samples = replace(CPU, newest_at=NOW + skew - MINUTE)
        results = replace(CHECK, ran_at=NOW + skew - MINUTE)

        assert [] == codes(facts(clock_skew=skew, collectors=[samples], checks=[results]))


def test_a_host_that_connected_just_now_is_coming_home_with_its_data() -> None:
    """After a day offline it has the same time as a new one to deliver."""
    old = replace(CPU, newest_at=NOW - timedelta(days=1))
    just_now = facts(connected_at=NOW - timedelta(minutes=2), collectors=[old, replace(CPU, newest_at=None)])
    later = replace(just_now, connected_at=NOW - timedelta(minutes=4))

    assert [] == codes(just_now)
    assert [ReasonCode.COLLECTOR_SILENT] * 2 == codes(later)


def test_what_was_started_or_defined_just_now_is_not_missed_yet() -> None:
    """A new collector, and a check that was changed a minute ago."""
    collector = replace(CPU, newest_at=None, running_since=NOW - MINUTE)
    check = replace(CHECK, ran_at=None, defined_at=NOW - MINUTE)

    assert [] == codes(facts(collectors=[collector], checks=[check]))


def test_a_collector_that_does_not_run_is_not_missed() -> None:
    """Its samples are from before; nothing is promised."""
    assert [] == codes(facts(collectors=[replace(CPU, interval=None, newest_at=NOW - timedelta(days=9))]))


def test_a_collector_with_a_problem_makes_its_host_degraded() -> None:
    """Also while it delivers what it can; the sentence is the agent's."""
    known = facts(collectors=[replace(CPU, problem="/proc/stat cannot be read")])

    assert ("collector cpu: /proc/stat cannot be read",) == tuple(each.sentence for each in reasons(known))


def test_a_check_without_results_is_missed() -> None:
    """By the same rule; heartbeats alone say nothing about it."""
    stale = replace(CHECK, ran_at=NOW - timedelta(minutes=10))

    assert ("check postgres: its newest results are 10 minutes old",) == tuple(
        each.sentence for each in reasons(facts(checks=[stale]))
    )


def test_gaps_of_the_last_hour_are_summed_up_by_kind() -> None:
    """What was lost, how much of it, and why; not what was lost yesterday."""
    gaps = [
        StoredGap(Gap("samples", 30, 0, 0, "space"), NOW - MINUTE),
        StoredGap(Gap("samples", 12, 0, 0, "age"), NOW - 2 * MINUTE),
        StoredGap(Gap("results", 1, 0, 0, ""), NOW - 3 * MINUTE),
        StoredGap(Gap("results", 7, 0, 0, "space"), NOW - timedelta(hours=1)),
    ]

    assert ["the agent lost 1 results (no reason given)", "the agent lost 42 samples (age, space)"] == [
        each.sentence for each in reasons(facts(gaps=gaps))
    ]


def test_refusals_count_while_they_go_on() -> None:
    """Series beyond the limit are refused with every batch; a single odd item is forgotten soon."""
    lately = RefusedItems("sample", "series_limit", 9, NOW, NOW - MINUTE, "disk.used_bytes")
    before = replace(lately, reason="malformed", last_at=NOW - timedelta(minutes=10))

    assert ["items of kind sample are refused: series_limit, for example disk.used_bytes"] == [
        each.sentence for each in reasons(facts(refused=[lately, before]))
    ]


def test_agents_are_counted_once_for_each_reason() -> None:
    """Every reason is there, so that a metric that falls to nothing is seen to."""
    silent = Reason(ReasonCode.COLLECTOR_SILENT, "cpu", "")
    lost = Reason(ReasonCode.DATA_LOST, "samples", "")
    counted = agents_by_reason({"a": (silent, silent, lost), "b": (silent,)})

    assert {ReasonCode.COLLECTOR_SILENT: 2, ReasonCode.DATA_LOST: 1} == {
        code: count for code, count in counted.items() if count
    }
    assert set(ReasonCode) == set(counted)

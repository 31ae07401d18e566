"""Who can follow a new server CA, and when somebody is warned that existing agents cannot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ct_ops_server.fleet.following import Following, alarm_due, alarm_sentence, objections
from ct_ops_server.fleet.server_ca_watch import AlarmMemory
from ct_ops_server.ownership import one_at_a_time

END = datetime(2036, 1, 1, tzinfo=UTC)


def before(days: float) -> datetime:
    """Return the moment so many days before the end."""
    return END - timedelta(days=days)


@pytest.mark.parametrize(
    ("days_left", "warned", "due"),
    [
        (181, None, None),
        (179, None, 180),
        (179, 180, None),
        (89, 180, 90),
        (89, 90, None),
        (29, 90, 30),
        (29, None, 30),
        (29, 30, None),
        (-5, 30, None),
    ],
)
def test_each_threshold_is_said_once(days_left: float, warned: int | None, due: int | None) -> None:
    """180, 90 and 30 days before the end; who was off meanwhile hears the latest only."""
    assert alarm_due(END, now=before(days_left), warned_days=warned) == due


def test_a_restart_says_nothing_twice_and_another_end_begins_anew(tmp_path: Path) -> None:
    """What was said lies in a file, so neither a restart nor another worker repeats it."""
    assert AlarmMemory(tmp_path, one_at_a_time).take(END, before(170)) == 180
    assert AlarmMemory(tmp_path, one_at_a_time).take(END, before(169)) is None
    assert AlarmMemory(tmp_path, one_at_a_time).take(END, before(20)) == 30
    assert AlarmMemory(tmp_path, one_at_a_time).take(END + timedelta(days=100), before(20)) == 180
    (tmp_path / "server-ca-alarm.json").write_text("damaged")
    assert AlarmMemory(tmp_path, one_at_a_time).take(END, before(20)) == 30


def test_the_alarm_names_the_hosts_and_what_to_do() -> None:
    """Whoever reads the log knows where to go."""
    said = alarm_sentence(END, ["a", "b"], 7, now=before(29.5))
    assert "ends in 29 days (2036-01-01)" in said
    assert "7 existing agents" in said
    assert "a, b, …" in said


def test_enough_of_the_fleet_is_no_objection() -> None:
    """The rest has until the old CA's end. An empty fleet leaves nobody behind either."""
    assert not objections(Following(100, 95, 5, 0, ("a",)), vouched=True)
    assert not objections(Following(0, 0, 0, 0, ()), vouched=False)


def test_a_single_agent_that_would_be_cut_off_at_once_is_an_objection() -> None:
    """In a fleet of 10,000 a twentieth would be five hundred hosts that somebody has to visit."""
    (objection,) = objections(Following(10_000, 9_999, 0, 0, ("asleep",)), vouched=False)

    assert objection == "1 of 10000 agents do not believe it yet and would be cut off at once: asleep"


def test_who_would_be_cut_off_is_named_with_what_to_do() -> None:
    """At once without a chain to the old one, else at that one's end."""
    few = Following(10, 5, 3, 1, ("a", "b"))
    assert "cut off at once: a, b, …" in objections(few, vouched=False)[0]
    assert "once the old one ends" in objections(few, vouched=True)[0]
    assert "3 of them are existing agents" in objections(few, vouched=True)[1]
    assert "ingest.ca_cert_file" in objections(few, vouched=True)[2]

"""What a list of checks changes."""

from __future__ import annotations

import math

import pytest

from ct_ops_agent.checks.plan import Planned, compare
from ct_ops_agent.work import CheckDefinition

A = CheckDefinition("a", "port", '{"host":"web","port":80}', 60.0)
B = CheckDefinition("b", "port", '{"host":"web","port":81}', 60.0)
RUNNING = {"a": Planned(A, since=0.0), "b": Planned(B, since=0.0)}


def test_the_same_list_changes_nothing() -> None:
    """Servers repeat it in every reply."""
    assert not compare(RUNNING, (B, A))


def test_the_empty_list_stops_everything() -> None:
    """With existing agents the last check of a host could not be stopped."""
    changes = compare(RUNNING, ())

    assert (("a", "b"), ()) == (changes.stop, changes.start)


@pytest.mark.parametrize(
    "changed",
    [
        CheckDefinition("a", "http", A.config_json, 60.0),
        CheckDefinition("a", "port", "{}", 60.0),
        CheckDefinition("a", "port", A.config_json, 61.0),
        CheckDefinition("a", "port", A.config_json, 60.0, timeout_s=1.0),
    ],
)
def test_a_change_of_anything_stops_the_old_one_and_starts_the_new(changed: CheckDefinition) -> None:
    """Type, configuration, interval, timeout."""
    changes = compare(RUNNING, (changed, B))

    assert (("a",), (changed,)) == (changes.stop, changes.start)


def test_of_one_id_the_last_definition_counts() -> None:
    """A list with a defect must not run a check twice. One without an id cannot be told from others."""
    nameless = CheckDefinition("", "port", "{}", 60.0)

    assert (B,) == compare({}, (CheckDefinition("b", "http", "{}", 1.0), nameless, B)).start


@pytest.mark.parametrize(
    ("asked", "interval"),
    [(0.0, 60.0), (-5.0, 60.0), (math.nan, 60.0), (math.inf, 60.0), (0.01, 1.0), (30.0, 30.0)],
)
def test_an_interval_is_always_one(asked: float, interval: float) -> None:
    """Whatever a server says, a check neither runs all the time nor never."""
    assert interval == Planned(CheckDefinition("a", "port", "{}", asked), since=0.0).interval_s

"""Random years of a fleet: every honest agent is reachable under its own identity, nobody else is let in, nothing is lost in silence.

``make simulate SEEDS=1000`` tries more than the suite; what failed once is kept in ``histories/`` and always tried.
docs/simulation.md says what is simulated, and what must hold.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.fleet_events import KINDS, plan
from simulation.fleet_history import Outcome, live, shortest
from simulation.fleet_kept import Kept, keep, kept_histories
from simulation.fleet_world import Size
from simulation.simulate import SMALL

_SEEDS = 312
_PARTS = 12


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(_PARTS))
def test_whatever_happens_in_a_year_nobody_is_left_outside_or_let_in(part: int) -> None:
    """Outages, clocks that jump, restores, reinstalls and intruders, in small fleets."""
    for seed in range(part, _SEEDS, _PARTS):
        must_hold(live(seed, SMALL))


@pytest.mark.timeout(600)
def test_two_hundred_agents_live_for_five_years() -> None:
    """With four hundred events of all kinds: outages, clocks, copies, rotations, restores, reinstallations and thieves."""
    size = Size(hosts=200, days=5 * 365, interval_days=60, events=400)
    outcome = live(4, size, plan(4, size, sorted(KINDS)))  # half of its hosts have existing agents
    must_hold(outcome)

    assert outcome.heartbeats > 10_000


@pytest.mark.timeout(600)
def test_twenty_agents_live_for_five_years() -> None:
    """Leaves are renewed thirty times and more, and the server's certificate six times."""
    must_hold(live(1, Size(hosts=20, days=5 * 365, interval_days=30, events=90)))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kept", [pytest.param(kept, id=name) for name, kept in kept_histories()])
def test_what_failed_once_holds_now(kept: Kept) -> None:
    """Histories that found a defect of the product, or of the simulation, are kept event by event."""
    must_hold(live(kept.seed, kept.size, kept.events))


def test_a_history_that_is_kept_is_read_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit of a moment."""
    monkeypatch.setattr("simulation.fleet_kept.FOLDER", tmp_path / "histories")
    failed = Outcome(7, SMALL, tuple(plan(7, SMALL)), ("something",))
    keep(failed)

    ((name, kept),) = kept_histories()
    assert ("seed-7-2-hosts-200-days", failed.seed, failed.events) == (name, kept.seed, kept.events)
    assert failed.size.interval_days == kept.size.interval_days


def test_a_history_is_its_seed() -> None:
    """Two runs of a seed do the same, to the last heartbeat."""
    first, second = live(3, SMALL), live(3, SMALL)
    assert (first.events, first.heartbeats, first.trace) == (second.events, second.heartbeats, second.trace)


def must_hold(outcome: Outcome) -> None:
    """Fail with the shortest list of events that still goes wrong."""
    if outcome.failed:
        pytest.fail(str(shortest(outcome)))

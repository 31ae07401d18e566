"""Random years of a fleet: every honest agent is reachable under its own identity, nobody else is let in, nothing is lost in silence.

``make simulate SEEDS=1000`` tries more than the suite; what failed once stands in ``fleet_seeds.txt`` and is always tried.
docs/simulation.md says what is simulated, and what must hold.
"""

from __future__ import annotations

import pytest

from simulation.fleet_history import Outcome, live, shortest
from simulation.fleet_world import Size
from simulation.simulate import SMALL, failed_once

_SEEDS = 104
_PARTS = 8


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(_PARTS))
def test_whatever_happens_in_a_year_nobody_is_left_outside_or_let_in(part: int) -> None:
    """Outages, clocks that jump, restores, reinstalls and intruders, in small fleets."""
    for seed in range(part, _SEEDS, _PARTS):
        must_hold(live(seed, SMALL))


@pytest.mark.timeout(600)
def test_twenty_agents_live_for_five_years() -> None:
    """Leaves are renewed thirty times and more, and the server's certificate six times."""
    must_hold(live(1, Size(hosts=20, days=5 * 365, interval_days=30, events=90)))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seed", "size"), failed_once())
def test_what_failed_once_holds_now(seed: int, size: Size) -> None:
    """Seeds that found a defect of the product, or of the simulation, are kept."""
    must_hold(live(seed, size))


def test_a_history_is_its_seed() -> None:
    """Two runs of a seed do the same, to the last heartbeat."""
    first, second = live(3, SMALL), live(3, SMALL)
    assert (first.events, first.heartbeats, first.trace) == (second.events, second.heartbeats, second.trace)


def must_hold(outcome: Outcome) -> None:
    """Fail with the shortest list of events that still goes wrong."""
    if outcome.failed:
        pytest.fail(str(shortest(outcome)))

"""What a check's state becomes when results arrive, in whatever order. Pure.

A late result never overwrites what a newer one said. Which one is newer is told by the start of the run, as
the agent said it, but no run counts as later than it arrived: so one result with a date of tomorrow does not
keep all the others from being the newest, and a host whose clock is ahead has its runs in their order.

``since_ms`` is the start of the first run with the present status; a late result could only tell that it was
another status in between, and is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ct_ops_server.fleet.items import CheckStatus


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a check."""

    status: CheckStatus
    ran_at_ms: int
    """By the agent's clock."""
    arrived_ms: int
    """By ours."""

    @property
    def order(self) -> tuple[int, int]:
        """The larger, the newer."""
        return (min(self.ran_at_ms, self.arrived_ms), self.ran_at_ms)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a check: the newest run, and since when its status is what it is."""

    newest: Run
    since_ms: int


def newest_state(known: Known | None, runs: Sequence[Run]) -> Known:
    """Return what is known after these runs; there is at least one."""
    state = known
    for run in sorted(runs, key=lambda run: run.order):
        if state is None:
            state = Known(run, run.ran_at_ms)
        elif run.order > state.newest.order:
            goes_on = run.status is state.newest.status
            state = Known(run, state.since_ms if goes_on else run.ran_at_ms)
    assert state is not None
    return state

"""What a check's state becomes when results arrive, in whatever order. Pure.

A late result never overwrites what a newer one said. ``since`` is the start of the first run with the
present status; a late result can only tell that it was another status in between, and is not asked.
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


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a check: its status, since which run, and the newest run."""

    status: CheckStatus
    since_ms: int
    ran_at_ms: int


def newest_state(known: Known | None, runs: Sequence[Run]) -> Known:
    """Return what is known after these runs; there is at least one."""
    state = known
    for run in sorted(runs, key=lambda run: run.ran_at_ms):
        if state is None or (run.status is not state.status and run.ran_at_ms >= state.ran_at_ms):
            state = Known(run.status, run.ran_at_ms, run.ran_at_ms)
        elif run.ran_at_ms > state.ran_at_ms:
            state = Known(state.status, state.since_ms, run.ran_at_ms)
    assert state is not None
    return state

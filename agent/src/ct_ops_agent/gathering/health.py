"""How a collector has been doing, and how often it may try. Pure.

A run that brings something is well, even when a part was missing. Failures in a row use up the budget; then
the collector is asked less and less often, at most every hour, until a run is well again: a broken probe must
not cost what a working one does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BUDGET = 5
"""Failures in a row before it is asked less often."""

LONGEST_PAUSE_S = 3600.0
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Health:
    """Of one collector."""

    runs: int = 0
    failures_in_a_row: int = 0
    problem: str = ""
    """One sentence for operators; empty: it works."""

    missing: str = ""
    """What the host does not let it see: a privilege, a file. The rest is delivered."""

    ran_at_unix: float | None = None
    duration_s: float = 0.0
    """Of the last run, by the clock on the wall."""

    cpu_s: float = 0.0
    """Of all runs, of the processor."""

    samples: int = 0
    """Of all runs."""

    def after_run(
        self,
        *,
        at_unix: float,
        duration_s: float,
        cpu_s: float,
        samples: int,
        problem: str,
        missing: str = "",
    ) -> Health:
        """Return the health after a run that came to its end."""
        return Health(
            runs=self.runs + 1,
            problem=problem,
            missing=missing,
            ran_at_unix=at_unix,
            duration_s=duration_s,
            cpu_s=self.cpu_s + cpu_s,
            samples=self.samples + samples,
        )

    def after_failure(self, problem: str, *, at_unix: float) -> Health:
        """Return the health after a run that brought nothing."""
        return replace(
            self,
            runs=self.runs + 1,
            failures_in_a_row=self.failures_in_a_row + 1,
            problem=problem,
            ran_at_unix=at_unix,
        )

    def interval_s(self, interval_s: float) -> float:
        """Return how often it may try, given how often it should."""
        doublings = min(max(self.failures_in_a_row - BUDGET, 0), _MOST_DOUBLINGS)
        return max(interval_s, min(interval_s * 2.0**doublings, LONGEST_PAUSE_S))

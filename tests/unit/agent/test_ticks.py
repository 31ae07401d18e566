"""When recurring work is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_agent.ticks import next_tick


@given(
    interval=st.floats(1.0, 3600.0),
    runs=st.integers(1, 200),
    chances=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=200, max_size=200),
)
def test_jitter_never_adds_up(interval: float, runs: int, chances: list[float]) -> None:
    """The n-th run is due n intervals after the first, and at most a tenth of one later."""
    elapsed = 0.0
    for chance in chances[:runs]:
        elapsed = next_tick(elapsed, interval, chance)

    late = elapsed - runs * interval
    assert -1e-6 * elapsed <= late <= min(interval / 10, 5.0) + 1e-6 * elapsed


@given(
    elapsed=st.floats(-1e9, 1e9),
    interval=st.floats(1.0, 3600.0),
    chance=st.floats(0.0, 1.0, exclude_max=True),
)
def test_the_next_tick_is_always_ahead(elapsed: float, interval: float, chance: float) -> None:
    """Ticks that were missed are skipped, not made up for; the wait is never much longer than an interval."""
    due = next_tick(elapsed, interval, chance)

    assert due > elapsed * (1 - 1e-9)
    assert due >= interval
    assert due <= max(elapsed, 0.0) + interval * 1.1 + 1e-6 * abs(elapsed)

"""How fast one stream's frames are read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.edge.pace import FramePace, allowed_silence_s, patience_s


def test_a_burst_is_read_at_once_and_the_next_frame_waits_its_turn() -> None:
    """Three frames for nothing, then a tenth of a second for each."""
    pace = FramePace(per_second=10.0, burst=3, now_s=lambda: 0.0)

    assert [0.0, 0.0, 0.0, 0.1, 0.2] == [pace.take() for _ in range(5)]


def test_silence_earns_no_more_than_a_burst() -> None:
    """An hour of silence does not buy 36,000 frames."""
    clock = iter([0.0, *[3_600.0] * 4])
    pace = FramePace(per_second=10.0, burst=3, now_s=lambda: next(clock))

    assert [0.0, 0.0, 0.0, 0.1] == [pace.take() for _ in range(4)]


@given(gaps_s=st.lists(st.floats(0, 5), max_size=200))
def test_whoever_waits_as_told_is_never_faster_than_the_rate(gaps_s: list[float]) -> None:
    """In the time that passed there are at most burst + 1 + rate x time frames."""
    clock = [0.0]
    pace = FramePace(per_second=10.0, burst=20, now_s=lambda: clock[0])
    for gap_s in gaps_s:
        clock[0] += gap_s + pace.take()

    assert len(gaps_s) <= 20 + 1 + 10.0 * clock[0] + 1e-6


def test_silence_is_allowed_for_three_intervals_and_longer_while_the_interval_is_unknown() -> None:
    """A short interval is not taken at its word; an existing agent's is learnt from its frames."""
    allowed = [allowed_silence_s(interval_s=seconds, floor_s=90, unknown_s=900) for seconds in (1, 60, 0)]

    assert allowed == [90, 180, 900]


def test_a_heartbeat_waits_for_company_a_hundredth_of_its_interval_and_a_quarter_of_a_second_at_most() -> (
    None
):
    """An agent that asks every second is answered as before, and the first frame of a stream never waits."""
    assert [0.0, 0.01, 0.25, 0.25] == [patience_s(seconds) for seconds in (0, 1, 30, 3_600)]

"""The pace of a hurry, and when it halts: pure."""

from __future__ import annotations

import pytest

from ct_ops_server.fleet.hurry import MOST_MISSING, Act, decide

MINUTE_MS = 60_000


def test_at_most_20_a_minute_are_made_to_renew_however_many_workers_ask() -> None:
    """Five workers that each look every 0.1 s, by one clock."""
    sent = list[int]()
    for now_ms in range(0, 10 * MINUTE_MS, 100):
        for _worker in range(5):
            if decide(now_ms=now_ms, last_sent_ms=sent[-1] if sent else None, missing=0) is Act.SEND:
                sent.append(now_ms)

    worst = max(sum(start <= each < start + MINUTE_MS for each in sent) for start in sent)
    assert worst == 20
    assert len(sent) == 200


def test_a_clock_that_goes_back_does_not_make_it_wait_for_years() -> None:
    """One is sent, and from then on the pace is kept by the clock there is."""
    assert decide(now_ms=1_000, last_sent_ms=10**12, missing=0) is Act.SEND
    assert decide(now_ms=1_100, last_sent_ms=1_000, missing=0) is Act.WAIT


@pytest.mark.parametrize(("missing", "act"), [(MOST_MISSING - 1, Act.SEND), (MOST_MISSING, Act.HALT)])
def test_it_halts_when_three_are_not_back(missing: int, act: Act) -> None:
    """Two may have been switched off at that moment; three are a reason to look."""
    assert decide(now_ms=10_000, last_sent_ms=None, missing=missing) is act

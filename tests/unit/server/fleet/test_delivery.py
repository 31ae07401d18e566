"""Which batch is stored, and how long the next one waits."""

from __future__ import annotations

import pytest

from ct_ops_server.fleet.delivery import BatchNumber, Position, Verdict, pause_ms, verdict_on

OUTBOX, DIGEST, OTHER = bytes(16), b"d" * 16, b"e" * 16


@pytest.mark.parametrize(
    ("found", "seq", "digest", "verdict"),
    [
        (Position(), 1, DIGEST, None),
        (Position(1, OTHER), 2, DIGEST, None),
        (Position(1, DIGEST), 1, DIGEST, Verdict.STORED),
        (Position(1, OTHER), 1, DIGEST, Verdict.MISMATCH),
        (Position(5, DIGEST), 4, DIGEST, Verdict.MISMATCH),
        (Position(5, DIGEST), 7, DIGEST, Verdict.MISMATCH),
        (Position(), 2, DIGEST, Verdict.MISMATCH),
    ],
)
def test_only_the_next_batch_is_stored(
    found: Position, seq: int, digest: bytes, verdict: Verdict | None
) -> None:
    """The same one again was stored; everything else does not fit."""
    assert verdict is verdict_on(BatchNumber(OUTBOX, seq, digest), found)


def test_nobody_waits_while_there_is_room() -> None:
    """A calm server takes batches as they come."""
    assert [0, 0] == [pause_ms(0.0), pause_ms(0.05)]


def test_the_fuller_the_queue_the_longer_the_wait() -> None:
    """Up to five seconds; heartbeats keep their room."""
    pauses = [pause_ms(load / 20) for load in range(1, 25)]

    assert sorted(pauses) == pauses
    assert 5_000 == pauses[-1] == pause_ms(1.0)

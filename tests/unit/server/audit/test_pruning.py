"""How much the database may forget when its clock is wrong."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.audit.pruning import PruningPace, signed_reach
from unit.server.audit.audit_world import AuditWorld, entries

DAY_S = 86_400.0
DAY_MS = 86_400_000


def test_the_head_of_the_own_key_says_how_far_the_files_are_signed(world: AuditWorld, tmp_path: Path) -> None:
    """Nobody else's, and none is none."""
    key = world.private.public_key()
    assert signed_reach(world.directory, key) is None
    world.write(entries(3))

    assert entries(3)[-1].link == signed_reach(world.directory, key)
    assert signed_reach(world.directory, Ed25519PrivateKey.generate().public_key()) is None


def test_a_clock_that_jumps_ahead_while_a_process_runs_holds_it_for_a_week() -> None:
    """The clock that only grows did not see the time pass."""
    pace, year = PruningPace(), 365 * DAY_MS
    now_ms = 20_000 * DAY_MS

    assert not pace.is_held(0, now_ms, now_ms)
    assert not pace.is_held(DAY_S, now_ms + DAY_MS, now_ms)
    assert pace.is_held(2 * DAY_S, now_ms + year, now_ms)
    assert pace.is_held(8 * DAY_S, now_ms + year + 6 * DAY_MS, now_ms)
    assert not pace.is_held(10 * DAY_S, now_ms + year + 8 * DAY_MS, now_ms)


def test_a_clock_that_is_set_back_and_put_right_again_is_a_jump() -> None:
    """In doubt nothing is forgotten for a week."""
    pace, now_ms = PruningPace(), 20_000 * DAY_MS

    assert not pace.is_held(0, now_ms, now_ms)
    assert not pace.is_held(DAY_S, now_ms - 90 * DAY_MS, now_ms)
    assert pace.is_held(2 * DAY_S, now_ms + 2 * DAY_MS, now_ms)


def test_a_month_a_day_may_go() -> None:
    """From the oldest entry of the day on."""
    pace = PruningPace()

    assert 31 * DAY_MS == pace.limit_ms(0, 0)
    assert 31 * DAY_MS == pace.limit_ms(DAY_S - 1, 20 * DAY_MS)
    assert 51 * DAY_MS == pace.limit_ms(DAY_S, 20 * DAY_MS)

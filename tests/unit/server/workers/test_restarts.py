"""When a worker that died is started again."""

from __future__ import annotations

from ct_ops_server.workers.restarts import GIVE_UP_AFTER, YOUNG_S, Restarts


def test_a_worker_that_had_served_is_back_at_once() -> None:
    """However often: each death was an accident."""
    restarts = Restarts()

    assert {0.0} == {restarts.wait_s(YOUNG_S) for _ in range(3 * GIVE_UP_AFTER)}


def test_a_worker_that_dies_young_over_and_over_is_given_up_after_growing_waits() -> None:
    """The first time is an accident as well; then the waits double."""
    restarts = Restarts()

    assert [0.0, 0.5, 1.0, 2.0, 4.0, None] == [restarts.wait_s(0.1) for _ in range(GIVE_UP_AFTER)]


def test_a_worker_that_served_once_more_gets_all_of_its_chances_back() -> None:
    """Deaths count in a row only."""
    restarts = Restarts()
    for _ in range(GIVE_UP_AFTER - 1):
        restarts.wait_s(0.1)
    restarts.wait_s(YOUNG_S)

    assert 0.0 == restarts.wait_s(0.1)

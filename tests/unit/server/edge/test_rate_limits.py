"""How often one address may ask."""

from __future__ import annotations

from ct_ops_server.edge.rate_limits import WINDOW_S, RateLimit


def test_what_is_over_the_limit_waits_for_the_window_to_end() -> None:
    """And is allowed after it."""
    now = [0.0]
    limit = RateLimit(2, now_s=lambda: now[0])
    first = [limit.wait_s("a") for _ in range(2)]
    now[0] = 20.0
    third = limit.wait_s("a")
    now[0] = WINDOW_S
    after = limit.wait_s("a")

    assert ([0.0, 0.0], 40.0, 0.0) == (first, third, after)


def test_addresses_are_counted_apart() -> None:
    """One that floods takes nothing from the others."""
    limit = RateLimit(1, now_s=lambda: 0.0)

    assert [0.0, WINDOW_S, 0.0] == [limit.wait_s(address) for address in ("a", "a", "b")]


def test_attack_a_flood_of_addresses_does_not_grow_the_memory() -> None:
    """The oldest are forgotten."""
    limit = RateLimit(1, now_s=lambda: 0.0)
    for number in range(30_000):
        limit.wait_s(str(number))

    assert 10_000 == len(limit._windows)

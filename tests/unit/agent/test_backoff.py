"""Waits grow, are spread, and respect what the server asked for."""

from ct_ops_agent.backoff import Backoff


def test_waits_double_up_to_the_ceiling() -> None:
    """Without chance the waits are 1, 2, 4 … and never above the ceiling."""
    backoff = Backoff(first=1, ceiling=60, random=lambda: 0.0)

    assert [1, 2, 4, 8, 16, 32, 60, 60] == [backoff.next_delay() for _ in range(8)]


def test_chance_takes_at_most_a_quarter() -> None:
    """Agents that failed together retry apart, but none of them at once."""
    assert 0.75 == Backoff(first=1, ceiling=60, random=lambda: 1.0).next_delay()


def test_a_wait_that_the_server_asked_for_is_only_stretched() -> None:
    """The server's retry-after is a lower bound, spread upwards."""
    backoff = Backoff(first=1, ceiling=60, random=lambda: 1.0)

    assert 40 * 1.25 == backoff.next_delay(at_least=40)


def test_a_success_sets_the_waits_back() -> None:
    """After a reset the next wait is the first one again."""
    backoff = Backoff(first=1, ceiling=60, random=lambda: 0.0)
    backoff.next_delay()
    backoff.next_delay()

    backoff.reset()

    assert 1 == backoff.next_delay()


def test_many_failures_do_not_overflow() -> None:
    """A server that is away for a year costs a ceiling, not a number without end."""
    assert 60 == Backoff(first=1, ceiling=60, random=lambda: 0.0, failures=1_000_000).next_delay()


def test_waits_stop_growing_for_as_long_as_there_is_hope() -> None:
    """Then they grow on from there."""
    backoff = Backoff(first=1, ceiling=60, random=lambda: 0.0, hopeful=4, hopeful_failures=5)

    assert [1, 2, 4, 4, 4, 8, 16, 32, 60, 60] == [backoff.next_delay() for _ in range(10)]


def test_agents_that_are_sent_away_spread_over_the_whole_time_they_were_given() -> None:
    """From at once to the last moment, by chance, and no wait grows because of it."""
    shares = iter((0.0, 0.5, 1.0, 0.0, 0.0))
    backoff = Backoff(first=1, ceiling=60, random=lambda: next(shares))

    assert [0.0, 4.0, 8.0] == [backoff.spread(8) for _ in range(3)]
    assert 1 == backoff.next_delay()

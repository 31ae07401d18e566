"""How long agents that are sent away may take to come back."""

from __future__ import annotations

import pytest

from ct_ops_server.edge.spread import HandshakeRate, reconnect_within_s


@pytest.mark.parametrize(
    ("agents", "handshakes_per_s", "within_s"),
    [
        (0, 0.0, 0.0),
        (1_500, 0.0, 5.0),  # nothing measured: what a small machine does
        (1_500, 3.0, 5.0),  # an idle server has measured its agents, not itself
        (4_000, 800.0, 5.0),
        (1_000_000, 800.0, 30.0),  # nobody is missed for longer than a heartbeat
    ],
)
def test_the_time_follows_from_the_agents_and_the_handshakes_a_second(
    agents: int, handshakes_per_s: float, within_s: float
) -> None:
    """Twice the agents, twice the time; twice the speed, half the time."""
    assert within_s == reconnect_within_s(agents, handshakes_per_s)


def test_the_rate_is_that_of_the_busiest_second() -> None:
    """Quiet times say nothing of what can be done."""
    rate = HandshakeRate()
    for second, handshakes in enumerate((0, 10, 300, 20)):
        for _ in range(handshakes):
            rate.done()
        rate.look(float(second))

    assert 300 == rate.best_per_s


def test_two_handshakes_in_a_moment_are_no_rate() -> None:
    """A look that came early counts as one after a second."""
    rate = HandshakeRate()
    rate.look(0.0)
    rate.done()
    rate.done()
    rate.look(0.001)

    assert 2 == rate.best_per_s

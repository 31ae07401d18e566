"""Four hundred clones that open their streams at once do not wait in everybody's queue."""

from __future__ import annotations

from ct_ops_server.edge.openings import MOST_AT_ONCE, Openings


def test_a_few_openings_of_an_agent_are_under_way_and_the_rest_is_sent_away() -> None:
    """Another agent has its own few."""
    openings = Openings()

    assert MOST_AT_ONCE == sum(openings.enter("template") for _ in range(400))
    assert openings.enter("bystander")


def test_an_opening_that_is_over_makes_room_and_leaves_nothing_behind() -> None:
    """So what is kept does not grow with agents."""
    openings = Openings(most=1)
    for number in range(1_000):
        assert openings.enter(f"agent-{number}")
        openings.leave(f"agent-{number}")

    assert 0 == len(openings)
    assert openings.enter("agent-1")

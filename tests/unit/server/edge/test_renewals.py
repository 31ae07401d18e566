"""When an existing agent's stream ends so that it renews: once, and not while that is of no use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ct_ops_server.edge.renewals import has_expired, is_sent_to_renew, share_of

ISSUED = datetime(2030, 1, 1, tzinfo=UTC)
NOT_AFTER = ISSUED + timedelta(days=90)


@pytest.mark.parametrize(
    ("opened_day", "now_day", "sent"),
    [
        (0, 59.9, False),
        (0, 60, True),
        (0, 89, True),
        (61, 61.5, False),
        (61, 62, True),
    ],
    ids=["not yet due", "due", "long due", "has just tried", "a day after it tried"],
)
def test_an_existing_agent_is_sent_to_renew_in_the_last_third(
    opened_day: float,
    now_day: float,
    sent: bool,  # noqa: FBT001  a column
) -> None:
    """It renews by itself when it reconnects then; if it did not, it is asked again a day later."""
    opened_at, now = ISSUED + timedelta(days=opened_day), ISSUED + timedelta(days=now_day)

    assert sent is is_sent_to_renew(NOT_AFTER, opened_at=opened_at, now=now)


def test_a_leaf_has_expired_when_clocks_cannot_explain_it() -> None:
    """Five minutes are tolerated, as at the handshake."""
    ends = (NOT_AFTER + timedelta(minutes=minutes) for minutes in (0, 5, 5.1))

    assert [False, False, True] == [has_expired(NOT_AFTER, now) for now in ends]


def test_a_fleet_that_was_installed_in_one_night_is_not_sent_away_in_one_night() -> None:
    """Each agent has a moment of its own in the five days after the third has begun."""
    shares = [share_of(f"agent-{number}") for number in range(1_000)]
    gone = [
        sum(is_sent_to_renew(NOT_AFTER, opened_at=ISSUED, now=ISSUED + timedelta(days=day), share=share) for share in shares)
        for day in (59.9, 61, 62, 63, 64, 65)
    ]  # fmt: skip
    assert gone[0] == 0
    assert gone[-1] == len(shares)
    assert max(later - before for before, later in pairwise(gone)) < len(shares) * 0.27
    assert share_of("agent-1") == shares[1]

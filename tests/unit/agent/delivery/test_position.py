"""Every row of the table in `delivery.position`."""

import pytest

from ct_ops_agent.delivery.position import (
    EVERYTHING_GONE,
    NOTHING_GONE,
    Decision,
    Ours,
    Step,
    Theirs,
    decide,
)

MINE, OTHER = b"mine", b"other"
STORE, RESTORED = b"store", b"restored"


def ours(
    *,
    acked: int = 10,
    last: int = 11,
    retained_from: int = 5,
    digest: bytes | None = MINE,
    agent_id: str = "a",
) -> Ours:
    """An outbox at 10 with one frozen batch and 5 to 10 retained."""
    return Ours(acked, last, retained_from, digest, STORE, agent_id)


def theirs(seq: int, digest: bytes = MINE, store: bytes = STORE, agent_id: str = "a") -> Theirs:
    return Theirs(b"outbox", seq, digest, store, agent_id)


@pytest.mark.parametrize(
    ("case", "found", "said", "expected"),
    [
        ("a", ours(), theirs(10), Decision(Step.GO_ON, 10)),
        ("a, restored a moment ago", ours(), theirs(10, store=RESTORED), Decision(Step.GO_ON, 10)),
        ("b", ours(), theirs(11), Decision(Step.LOST_ACKNOWLEDGEMENT, 11)),
        ("b, several after a rewind", ours(last=14), theirs(13), Decision(Step.LOST_ACKNOWLEDGEMENT, 13)),
        ("c", ours(), theirs(7, store=RESTORED), Decision(Step.REWIND, 7)),
        ("c, from the first retained", ours(), theirs(4, store=RESTORED), Decision(Step.REWIND, 4)),
        (
            "c, to before this outbox: so are earlier ones",
            ours(retained_from=1, digest=b""),
            theirs(0, b"", RESTORED),
            Decision(Step.REWIND, 0, EVERYTHING_GONE),
        ),
        ("d1", ours(), theirs(3, store=RESTORED), Decision(Step.START_OVER, 0, gone_after=3)),
        ("d1, without a new store id", ours(), theirs(3), Decision(Step.START_OVER, 0, gone_after=3)),
        (
            "d1, from before this outbox",
            ours(digest=b""),
            theirs(0, b"", RESTORED),
            Decision(Step.START_OVER, 0, EVERYTHING_GONE),
        ),
        (
            "d2, another server",
            ours(digest=b""),
            theirs(0, b"", RESTORED, agent_id="b"),
            Decision(Step.START_OVER, 0, NOTHING_GONE),
        ),
        (
            "d2, the first server of all",
            ours(acked=0, last=0, retained_from=1, digest=b"", agent_id=""),
            theirs(0, b""),
            Decision(Step.GO_ON, 0),
        ),
        (
            "d3, our directory went back",
            ours(digest=None),
            theirs(15, OTHER),
            Decision(Step.START_OVER, 0, NOTHING_GONE),
        ),
        ("d3, a clone was faster", ours(), theirs(11, OTHER), Decision(Step.START_OVER, 0, NOTHING_GONE)),
        (
            "d4, both went back",
            ours(digest=None),
            theirs(15, OTHER, RESTORED),
            Decision(Step.START_OVER, 0, EVERYTHING_GONE),
        ),
        (
            "d4, behind us with another history",
            ours(),
            theirs(7, OTHER),
            Decision(Step.START_OVER, 0, EVERYTHING_GONE),
        ),
    ],
)
def test_each_case_has_its_answer(case: str, found: Ours, said: Theirs, expected: Decision) -> None:
    """As the table in the module's head says."""
    assert expected == decide(found, said), case

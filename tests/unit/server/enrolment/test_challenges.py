"""A nonce is one key's, for a minute and for one use."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.strategies import data, floats, sampled_from

from ct_ops_server.enrolment.challenges import Challenges, TooManyChallengesError

KEYS = ["key-a", "key-b"]


def challenges(clock: list[float], most_open: int = 10) -> Challenges:
    numbers = count()
    return Challenges(
        random_bytes=lambda size: next(numbers).to_bytes(size, "big"),
        monotonic_s=lambda: clock[0],
        most_open=most_open,
    )


def test_a_nonce_is_good_once() -> None:
    """The second answer to a challenge is a replay."""
    open_ones = challenges([0.0])
    nonce = open_ones.issue("key-a")

    assert [True, False] == [open_ones.redeem(nonce, "key-a") for _ in range(2)]


def test_a_nonce_is_one_keys_and_a_wrong_key_uses_it_up() -> None:
    """Nobody gets to try keys on a nonce."""
    open_ones = challenges([0.0])
    nonce = open_ones.issue("key-a")

    assert [False, False] == [open_ones.redeem(nonce, key) for key in ("key-b", "key-a")]


def test_a_nonce_is_good_for_a_minute() -> None:
    """At the end of it, it is not."""
    clock = [100.0]
    open_ones = challenges(clock)
    first, second = open_ones.issue("key-a"), open_ones.issue("key-a")
    clock[0] = 159.9
    early = open_ones.redeem(first, "key-a")
    clock[0] = 160.0

    assert [True, False] == [early, open_ones.redeem(second, "key-a")]


def test_a_flood_of_challenges_is_refused_and_forgotten_in_a_minute() -> None:
    """Whoever asks without end fills a bounded table, for a bounded time."""
    clock = [0.0]
    open_ones = challenges(clock, most_open=3)
    for _ in range(3):
        open_ones.issue("key-a")
    with pytest.raises(TooManyChallengesError):
        open_ones.issue("key-b")
    clock[0] = 60.0

    assert open_ones.redeem(open_ones.issue("key-b"), "key-b")


class ChallengeMachine(RuleBasedStateMachine):
    """Any order of asking, answering and waiting, beside a model that remembers everything."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = [0.0]
        self.open_ones = challenges(self.clock, most_open=5)
        self.issued: dict[bytes, tuple[str, float]] = {}

    @rule(key=sampled_from(KEYS))
    def ask(self, key: str) -> None:
        alive = [born for _, born in self.issued.values() if self.clock[0] < born + 60]
        try:
            nonce = self.open_ones.issue(key)
        except TooManyChallengesError:
            assert 5 == len(alive)
        else:
            assert nonce not in self.issued
            self.issued[nonce] = (key, self.clock[0])

    @rule(key=sampled_from(KEYS), draw=data())
    def answer(self, key: str, draw: object) -> None:
        if not self.issued:
            return
        nonce = draw.draw(sampled_from(sorted(self.issued)))  # type: ignore[attr-defined]  # hypothesis' DataObject has no public name
        owner, born = self.issued.pop(nonce)
        good = owner == key and self.clock[0] < born + 60

        assert good is self.open_ones.redeem(nonce, key)
        assert not self.open_ones.redeem(nonce, key)

    @rule(seconds=floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.clock[0] += seconds

    @invariant()
    def remembers_no_more_than_it_may(self) -> None:
        assert len(self.open_ones._open) <= 5


TestChallengeMachine = ChallengeMachine.TestCase

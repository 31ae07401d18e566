"""What comes without end costs the chain a bounded number of entries, and no count is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.audit.thinning import Key, Tally, Thinning

KEY = ("token_revoked", "t1")


def once(now_s: float, host: str = "h") -> Tally:
    return Tally(1, now_s, now_s, (host,), ("192.0.2.1",))


def test_the_first_one_is_told_at_once_and_the_next_ones_together() -> None:
    """With how many, from when to when, and who the first few were."""
    thinning = Thinning()
    thinning.add(KEY, once(100, "first"))
    told = [list(thinning.due(100))]
    for second in range(101, 150):
        thinning.add(KEY, once(second, f"h{second}"))
        told.append(list(thinning.due(second)))
    (late,) = thinning.due(160)

    assert [(KEY, once(100, "first"))] == told[0]
    assert not any(told[1:])
    assert (49, 101, 149) == (late[1].count, late[1].first_s, late[1].last_s)
    assert ("h101", "h102", "h103", "h104", "h105") == late[1].hosts


def test_a_stolen_token_that_hammers_all_day_costs_few_entries() -> None:
    """Attack: ten refusals a second with fresh keys; an entry an hour is what it comes to."""
    thinning = Thinning()
    told: list[tuple[Key, Tally]] = []
    for second in range(86_400):
        thinning.add(KEY, Tally(10, second, second, (f"h{second}",)))
        told += thinning.due(second)
    told += thinning.due(86_400, everything=True)

    assert len(told) < 35
    assert 864_000 == sum(tally.count for _, tally in told)


def test_after_a_quiet_window_it_is_a_first_time_again() -> None:
    """Nothing is kept of who does not come back."""
    thinning = Thinning()
    thinning.add(KEY, once(0))
    assert thinning.due(0)
    assert not thinning.due(60)
    thinning.add(KEY, once(61))

    assert [(KEY, once(61))] == list(thinning.due(61))


def test_more_keys_than_there_are_places_are_summed_up_by_their_reason() -> None:
    """Attack: every refusal under another token id; the memory stays bounded."""
    thinning = Thinning(places=10)
    for number in range(1_000):
        thinning.add(("token_revoked", f"t{number}"), once(0))

    told = dict(thinning.due(0))

    assert 11 == len(told)
    assert 990 == told["token_revoked", ""].count


def test_what_could_not_be_recorded_is_told_again() -> None:
    """The database did not answer: the count is whole when it does."""
    thinning = Thinning()
    thinning.add(KEY, once(0))
    thinning.put_back(thinning.due(0))
    thinning.add(KEY, once(1))

    assert [2] == [tally.count for _, tally in thinning.due(1)]


def test_a_clock_that_is_set_back_silences_nobody() -> None:
    """By a year: the next one is told at once."""
    thinning = Thinning()
    thinning.add(KEY, once(40_000_000))
    assert thinning.due(40_000_000)
    thinning.add(KEY, once(1_000))

    assert thinning.due(1_000)


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from("abc"), st.integers(1, 5)), max_size=60))
def test_no_count_is_lost(events: list[tuple[int, str, int]]) -> None:
    """Whatever comes when."""
    thinning, now, total = Thinning(places=2), 0.0, 0
    for pause, token, count in events:
        now += pause
        thinning.add(("r", token), Tally(count, now, now))
        total += sum(tally.count for _, tally in thinning.due(now))
    total += sum(tally.count for _, tally in thinning.due(now, everything=True))

    assert sum(count for _, _, count in events) == total

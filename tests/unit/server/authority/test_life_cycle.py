"""The life cycle: whatever operators do, one signs, nothing good ends unasked, and the way back is open until it is closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.authority.life_cycle import (
    KEYS_ARE_CACHED,
    TOKENS_LIVE,
    TRANSITIONS,
    TRUSTED,
    Held,
    Holders,
    Kind,
    NoStepError,
    Plan,
    Situation,
    Step,
    Straggler,
    TrustState,
    changes,
    objections,
    plan_next,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ONE = Held("one", TrustState.ACTIVE, NOW)
ROTATION = [
    (Step.PREPARE, {"one": "active", "two": "prepared"}),
    (Step.ACTIVATE, {"one": "outgoing", "two": "active"}),
    (Step.RETIRE, {"one": "retired", "two": "active"}),
]


def take(held: list[Held], *, back: bool = False) -> tuple[Step, list[Held]]:
    """Return the step that follows, and what is known after it."""
    plan = plan_next(Kind.CA, held, back=back)
    new = changes(plan, held)
    after = [Held(each.name, new.get(each.name, each.state), NOW) for each in held]
    if plan.step is Step.PREPARE:
        after.append(Held("two" if len(held) == 1 else f"number {len(held) + 1}", TrustState.PREPARED, NOW))
    return plan.step, after


def test_a_rotation_is_three_steps() -> None:
    """Prepare, activate, retire: each the only one that can follow."""
    held = [ONE]
    for step, expected in ROTATION:
        taken, held = take(held)
        assert (step, expected) == (taken, {each.name: each.state.value for each in held})


@pytest.mark.parametrize(
    ("signs_in_days", "ends_in_days", "is_refused"),
    [((-1, 9), 9, False), ((900, 4_000), 9, True), ((-4_000, -900), 9, True), ((-4_000, -900), -1, False)],
    ids=["both can", "made in the future", "made in the past", "neither can"],
)
def test_the_last_one_that_can_sign_is_not_retired_unless_forced(
    signs_in_days: tuple[int, int],
    ends_in_days: int,
    is_refused: bool,  # noqa: FBT001  a column
) -> None:
    """The one that is active was made while the server's clock was years away: nobody would get a leaf."""
    outgoing = Plan(Kind.CA, Step.RETIRE, Held("one", TrustState.OUTGOING, NOW))
    start, end = (NOW + timedelta(days=days) for days in signs_in_days)
    begun, ends = NOW - timedelta(days=99), NOW + timedelta(days=ends_in_days)
    situation = Situation(NOW, signs=(start, end), not_before=begun, not_after=ends)
    found = objections(outgoing, situation)

    assert is_refused == any("ca rotate --back" in each.sentence and each.can_be_forced for each in found)


def test_every_step_but_the_last_has_a_way_back() -> None:
    """What was prepared is discarded; what was activated goes back, and forward again."""
    _, prepared = take([ONE])
    discard, discarded = take(prepared, back=True)
    _, activated = take(prepared)
    go_back, before = take(activated, back=True)

    assert (Step.DISCARD, Step.GO_BACK) == (discard, go_back)
    assert ["active", "retired"] == [each.state.value for each in discarded]
    assert ["active", "outgoing"] == [each.state.value for each in before]
    assert Step.RETIRE is plan_next(Kind.CA, before).step
    with pytest.raises(NoStepError, match="nothing to undo"):
        take(discarded, back=True)


@given(st.lists(st.booleans(), max_size=25))
def test_whatever_operators_do_exactly_one_signs_and_at_most_one_moves(backward: list[bool]) -> None:
    """And who signed a moment ago is trusted, whatever the step was."""
    held = [ONE]
    for back in backward:
        signed = {each.name for each in held if each.state is TrustState.ACTIVE}
        try:
            _, held = take(held, back=back)
        except NoStepError:
            continue
        states = [each.state for each in held]
        trusted = {each.name for each in held if each.state in TRUSTED}
        assert 1 == states.count(TrustState.ACTIVE)
        assert states.count(TrustState.PREPARED) + states.count(TrustState.OUTGOING) <= 1
        assert signed <= trusted


def test_nothing_comes_back_from_retired() -> None:
    """Its private key is gone."""
    assert TrustState.RETIRED not in {each.of for each in TRANSITIONS}


def plan(step: Step, state: TrustState, kind: Kind = Kind.CA, since: datetime = NOW) -> Plan:
    return Plan(kind, step, Held("it", state, since))


@pytest.mark.parametrize("step", [Step.ACTIVATE, Step.RETIRE, Step.GO_BACK])
def test_a_step_waits_for_every_worker(step: Step) -> None:
    """The sentence names the worker and its node."""
    behind = Situation(NOW, [Straggler("w1", "node-7"), Straggler("w2", "")])
    (objection,) = objections(plan(step, TrustState.OUTGOING), behind)

    assert "2 workers have not taken up" in objection.sentence
    assert "w1 on node-7, w2 on an unknown node" in objection.sentence
    assert objection.can_be_forced


@pytest.mark.parametrize("step", [Step.PREPARE, Step.DISCARD])
def test_a_beginning_and_its_undoing_wait_for_nobody(step: Step) -> None:
    """Nobody has got anything from the next one."""
    behind = Situation(NOW, [Straggler("w1", "node-7")])
    assert [] == objections(plan(step, TrustState.PREPARED), behind)


def test_an_authority_is_not_retired_while_agents_need_it() -> None:
    """How many, and which first; forced it can be."""
    holders = Situation(NOW, holders=Holders(7, ("web-1", "web-2")))
    (objection,) = objections(plan(Step.RETIRE, TrustState.OUTGOING), holders)

    assert "7 active agents hold a good leaf of it: web-1, web-2, …" in objection.sentence
    assert objection.can_be_forced
    assert [] == objections(plan(Step.RETIRE, TrustState.OUTGOING), Situation(NOW))


@pytest.mark.parametrize("days", [-1, 10])
def test_an_authority_outside_its_dates_never_becomes_active(days: int) -> None:
    """Its leaves would be worth nothing: no force helps."""
    start = NOW + timedelta(days=days)
    dates = Situation(NOW, not_before=start, not_after=start + timedelta(hours=1))
    (objection,) = objections(plan(Step.ACTIVATE, TrustState.PREPARED), dates)

    assert not objection.can_be_forced


@pytest.mark.parametrize(
    ("step", "state", "wait"),
    [
        (Step.ACTIVATE, TrustState.PREPARED, KEYS_ARE_CACHED),
        (Step.RETIRE, TrustState.OUTGOING, TOKENS_LIVE),
    ],
)
def test_a_token_key_waits_for_those_who_verify_and_for_its_last_token(
    step: Step, state: TrustState, wait: timedelta
) -> None:
    """A JWKS may be cached; a token lives a day."""
    early = Situation(NOW + wait - timedelta(seconds=1))
    (objection,) = objections(plan(step, state, Kind.JWT), early)

    assert (NOW + wait).isoformat(timespec="seconds") in objection.sentence
    assert [] == objections(plan(step, state, Kind.JWT), Situation(NOW + wait))

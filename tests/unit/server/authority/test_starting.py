"""The table of what a start does: every line of it, and what holds for every situation there can be."""

from __future__ import annotations

import itertools

import pytest

from ct_ops_server.authority.life_cycle import Kind
from ct_ops_server.authority.start_sentences import key_is_nowhere, remark_on
from ct_ops_server.authority.starting import (
    RULES,
    Kept,
    Move,
    Named,
    Remark,
    Situation,
    rule_for,
)

BOTH = (True, False)
EVERYTHING = [
    Situation(*each)
    for each in itertools.product(BOTH, Named, BOTH, Kept, BOTH, BOTH)
    if each[0] or not (each[4] or each[5])  # a new database knows no active one, whose key could be at hand
]
NEW_DATABASE = Situation(knows_active=False, has_key=False)
ACTIVE = Situation(knows_active=True)

NO = {"named_is_usable": False}
GONE = {"has_key": False}
TABLE: list[tuple[dict[str, object], Move, Remark]] = [
    # the database is new
    ({"knows_active": False}, Move.MAKE, Remark.NOTHING),
    ({"knows_active": False, "kept": Kept.KNOWN}, Move.ADOPT_KEPT, Remark.NOTHING),
    ({"knows_active": False, "kept": Kept.STRANGER}, Move.ADOPT_KEPT, Remark.NOTHING),
    ({"knows_active": False, "named": Named.NEW}, Move.ADOPT_NAMED, Remark.NOTHING),
    ({"knows_active": False, "named": Named.NEW, "kept": Kept.KNOWN}, Move.ADOPT_NAMED, Remark.NOTHING),
    ({"knows_active": False, "named": Named.NEW, **NO}, Move.REFUSE, Remark.NAMED_IS_UNUSABLE),
    # the setting names nothing
    ({}, Move.GO_ON, Remark.NOTHING),
    ({"kept": Kept.KNOWN}, Move.GO_ON, Remark.NOTHING),
    ({"kept": Kept.STRANGER}, Move.GO_ON, Remark.KEPT_IS_A_STRANGER),
    ({**GONE}, Move.REFUSE, Remark.KEY_IS_NOWHERE),
    ({"kept": Kept.KNOWN, **GONE}, Move.REFUSE, Remark.KEY_IS_NOWHERE),
    ({"kept": Kept.STRANGER, **GONE}, Move.REFUSE, Remark.KEY_IS_NOWHERE),
    # it names the active or the prepared one
    ({"named": Named.ACTIVE}, Move.GO_ON, Remark.NOTHING),
    ({"named": Named.PREPARED}, Move.GO_ON, Remark.NOTHING),
    ({"named": Named.ACTIVE, "is_moving": True}, Move.GO_ON, Remark.NOTHING),
    ({"named": Named.ACTIVE, **NO}, Move.GO_ON, Remark.NAMED_IS_UNFIT),
    ({"named": Named.PREPARED, **NO}, Move.GO_ON, Remark.NAMED_IS_UNFIT),
    ({"named": Named.ACTIVE, **NO, **GONE}, Move.REFUSE, Remark.KEY_IS_NOWHERE),
    ({"named": Named.PREPARED, **GONE}, Move.REFUSE, Remark.KEY_IS_NOWHERE),
    # it names one that a rotation has gone past
    ({"named": Named.PAST}, Move.GO_ON, Remark.NAMED_IS_PAST),
    ({"named": Named.PAST, **NO}, Move.GO_ON, Remark.NAMED_IS_PAST),
    ({"named": Named.PAST, **GONE}, Move.REFUSE, Remark.KEY_IS_NOWHERE),
    # it names a renewed one
    ({"named": Named.RENEWED}, Move.RENEW, Remark.NOTHING),
    ({"named": Named.RENEWED, "is_moving": True}, Move.RENEW, Remark.NOTHING),
    ({"named": Named.RENEWED, **NO}, Move.REFUSE, Remark.NAMED_IS_UNUSABLE),
    ({"named": Named.RENEWED, **GONE}, Move.REFUSE, Remark.KEY_IS_NOWHERE),
    # it names a new one
    ({"named": Named.NEW}, Move.PREPARE, Remark.NOTHING),
    ({"named": Named.NEW, "kept": Kept.STRANGER}, Move.PREPARE, Remark.NOTHING),
    ({"named": Named.NEW, "is_moving": True}, Move.GO_ON, Remark.NAMED_WAITS),
    ({"named": Named.NEW, **NO}, Move.REFUSE, Remark.NAMED_IS_UNUSABLE),
    ({"named": Named.NEW, **GONE}, Move.REFUSE, Remark.KEY_IS_NOWHERE),
]


@pytest.mark.parametrize(("found", "move", "remark"), TABLE, ids=lambda each: str(each)[:80])
def test_a_start_does_what_the_table_says(found: dict[str, object], move: Move, remark: Remark) -> None:
    """What the setting names, what the files hold, and what the database says."""
    given = {"knows_active": True, "has_key": found.get("knows_active", True), **found}
    rule = rule_for(Situation(**given))  # type: ignore[arg-type]  # names and values are the table's

    assert (move, remark) == (rule.move, rule.remark)


def test_every_line_decides_something_and_every_situation_is_decided() -> None:
    """No line is dead, and none is missing."""
    deciding = {id(rule_for(each)) for each in EVERYTHING}

    assert {id(rule) for rule in RULES} == deciding


@pytest.mark.parametrize("found", EVERYTHING, ids=str)
def test_nobody_takes_the_place_of_an_active_one(found: Situation) -> None:
    """Whatever lies on a host: nothing is made or adopted beside it, a new one is prepared at most, and only with its key."""
    move = rule_for(found).move
    if found.knows_active:
        assert move not in {Move.MAKE, Move.ADOPT_NAMED, Move.ADOPT_KEPT}
    if move in {Move.PREPARE, Move.RENEW}:
        assert found.has_key
        assert found.named_is_usable


@pytest.mark.parametrize("found", EVERYTHING, ids=str)
def test_whoever_can_go_on_goes_on(found: Situation) -> None:
    """A start is refused only when nobody could sign, or a new one that is named cannot."""
    if rule_for(found).move is not Move.REFUSE:
        return
    nobody_signs = found.knows_active and not found.has_key
    new_is_bad = not found.named_is_usable and (
        not found.knows_active or found.named in {Named.NEW, Named.RENEWED}
    )

    assert nobody_signs or new_is_bad


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_said_says_what_to_do(kind: Kind) -> None:
    """Every remark that a start can go on with has a sentence, and the refusal names three ways out."""
    going_on = {rule.remark for rule in RULES if rule.move is Move.GO_ON} - {Remark.NOTHING}
    for remark in going_on:
        assert remark_on(kind, remark, state="retired", moving="b is prepared", kept="file", why="ended")
    refusal = key_is_nowhere(kind, beside="agent-ca.crt")

    assert all(each in refusal for each in ("again", "copy ", "replace-lost", "agent-ca.crt"))

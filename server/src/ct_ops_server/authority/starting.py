"""What a start does about the agent CA, and about the key of agent tokens: one table for both.

Three things are looked at: what the **setting** names (INGEST_AGENT_CA_CERT, INGEST_JWT_KEY_FILE), what is **kept** in
the files that the server makes for itself, and what the **database** says: who is active, and whether the private key
of that one is at hand, sealed in the database or in one of the files. ``RULES`` is the table; the first that fits
decides. What they keep to:

* a database that knows an active one has the last word: nothing that merely lies on a host takes its place;
* nothing is made beside an active one, so a setting or a file that was lost never becomes another CA;
* a new one that is named is prepared, never active at once; the same one with a new certificate goes on as itself;
* whoever can go on goes on, and says what is odd.

Pure. Looking is ``key_search``'s, doing is ``keyring``'s, and the sentences are in ``start_sentences``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ct_ops_server.authority.errors import AuthorityError


class Named(StrEnum):
    """What the setting names, as the database sees it."""

    NOTHING = "nothing"
    ACTIVE = "the active one"
    PREPARED = "the prepared one"
    PAST = "one that is outgoing or retired"
    RENEWED = "the active or the prepared one, with a new certificate"
    """The same key and name, or the same certificate below one that lasts longer."""
    NEW = "another one"


class Kept(StrEnum):
    """What lies in the server's own files, as the database sees it."""

    NOTHING = "nothing"
    KNOWN = "one that is known"
    STRANGER = "one that is not known"


class Move(StrEnum):
    """What a start does."""

    GO_ON = "goes on with the active one"
    MAKE = "makes the first"
    ADOPT_NAMED = "has the named one be the first"
    ADOPT_KEPT = "has the one in the files be the first"
    PREPARE = "prepares the named one"
    RENEW = "goes on as the same one, with the new certificate"
    REFUSE = "is refused"


class Remark(StrEnum):
    """Why it is refused, or what is said although it goes on."""

    NOTHING = ""
    KEY_IS_NOWHERE = "the private key of the active one is not at hand"
    NAMED_IS_UNUSABLE = "the named one cannot be used"
    NAMED_IS_PAST = "the setting names one that a rotation has gone past"
    NAMED_WAITS = "another rotation is under way, so the named one waits"
    NAMED_IS_UNFIT = "what is named cannot be used any more, and is not needed"
    KEPT_IS_A_STRANGER = "the one in the files is not known, and is left alone"


@dataclass(frozen=True, slots=True)
class Situation:
    """What a start finds of one kind."""

    knows_active: bool
    """The database does; False in a new one."""
    named: Named = Named.NOTHING
    named_is_usable: bool = True
    kept: Kept = Kept.NOTHING
    has_key: bool = True
    """The private key of the active one is at hand."""
    is_moving: bool = False
    """One is prepared or outgoing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table."""

    database: str
    setting: str
    when: Callable[[Situation], bool]
    move: Move
    remark: Remark = Remark.NOTHING


_IN_PLACE = {Named.ACTIVE, Named.PREPARED}
_FRESH = {Named.RENEWED, Named.NEW}
_NEW_DATABASE, _WITH_KEY = "knows none", "knows the active one, whose key is at hand"

RULES = (
    Rule(
        _NEW_DATABASE,
        "names one that cannot be used",
        lambda it: not it.knows_active and it.named is not Named.NOTHING and not it.named_is_usable,
        Move.REFUSE,
        Remark.NAMED_IS_UNUSABLE,
    ),
    Rule(
        _NEW_DATABASE,
        "names one",
        lambda it: not it.knows_active and it.named is not Named.NOTHING,
        Move.ADOPT_NAMED,
    ),
    Rule(
        _NEW_DATABASE,
        "names nothing; the files hold one",
        lambda it: not it.knows_active and it.kept is not Kept.NOTHING,
        Move.ADOPT_KEPT,
    ),
    Rule(_NEW_DATABASE, "names nothing, and there are no files", lambda it: not it.knows_active, Move.MAKE),
    Rule(
        "knows the active one",
        "names a new one, or a new certificate, that cannot be used",
        lambda it: it.named in _FRESH and not it.named_is_usable,
        Move.REFUSE,
        Remark.NAMED_IS_UNUSABLE,
    ),
    Rule(
        "knows the active one, whose key is nowhere",
        "whatever it names; whatever the files hold",
        lambda it: not it.has_key,
        Move.REFUSE,
        Remark.KEY_IS_NOWHERE,
    ),
    Rule(_WITH_KEY, f"names {Named.RENEWED}", lambda it: it.named is Named.RENEWED, Move.RENEW),
    Rule(
        f"{_WITH_KEY}, and one that is prepared or outgoing",
        "names a new one",
        lambda it: it.named is Named.NEW and it.is_moving,
        Move.GO_ON,
        Remark.NAMED_WAITS,
    ),
    Rule(_WITH_KEY, "names a new one", lambda it: it.named is Named.NEW, Move.PREPARE),
    Rule(
        _WITH_KEY,
        f"names {Named.PAST}, whether it can be used or not",
        lambda it: it.named is Named.PAST,
        Move.GO_ON,
        Remark.NAMED_IS_PAST,
    ),
    Rule(
        _WITH_KEY,
        "names the active or the prepared one, and what it names has ended or does not open",
        lambda it: it.named in _IN_PLACE and not it.named_is_usable,
        Move.GO_ON,
        Remark.NAMED_IS_UNFIT,
    ),
    Rule(
        _WITH_KEY,
        "names nothing new; the files hold one that nobody knows",
        lambda it: it.kept is Kept.STRANGER,
        Move.GO_ON,
        Remark.KEPT_IS_A_STRANGER,
    ),
    Rule(_WITH_KEY, "names nothing new", lambda _it: True, Move.GO_ON),
)


class StartRefusedError(AuthorityError):
    """A start that would have had to guess who signs. Nothing was made or changed; ``str()`` says what to do."""


def rule_for(situation: Situation) -> Rule:
    """Return the line of the table that decides."""
    return next(rule for rule in RULES if rule.when(situation))


def rules_markdown() -> str:
    """Return the table, for the documentation."""
    rows = [
        f"| {rule.database} | {rule.setting} | {rule.move}{f': {rule.remark}' if rule.remark else ''} |"
        for rule in RULES
    ]
    return "\n".join(("| the database | the setting | the start |", "|---|---|---|", *rows))

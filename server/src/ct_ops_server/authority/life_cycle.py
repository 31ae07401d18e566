"""The life of an agent CA and of the key that signs agent tokens: one state machine for both.

    (made or brought) ──prepare──> prepared ──activate──> active
                                      │                     │ another one is activated
                                   discard                  v
                                      │                  outgoing ──retire──> retired
                                      v                     │
                                   retired               go back: active again

What each state is worth is said once, in ``STATES``; what each step changes, in ``TRANSITIONS``. Rules kept here:

* one is active, and at most one is on its way in *or* out: a rotation ends before the next one begins;
* nothing ends at once: what signed yesterday is trusted until it is retired, so a switch needs no pause;
* every step but the last has a way back, and ``retire`` is refused while somebody needs what it ends.

Pure. Who holds what, and which worker has heard of it, comes in as ``Situation``; ``store.trust`` stores what
follows, and ``rotation`` asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

KEYS_ARE_CACHED = timedelta(minutes=10)
"""How long others may go by a JWKS they fetched: twice what its answer allows."""

TOKENS_LIVE = timedelta(hours=25)
"""An agent token's life, and an hour for clocks and restarts."""


class Kind(StrEnum):
    """What is rotated."""

    CA = "ca"
    JWT = "jwt"


class TrustState(StrEnum):
    """What a signature is worth, and whether new ones are made. Of each kind at most one is active."""

    PREPARED = "prepared"
    ACTIVE = "active"
    OUTGOING = "outgoing"
    RETIRED = "retired"


class Step(StrEnum):
    """What an operator can do."""

    PREPARE = "prepare"
    ACTIVATE = "activate"
    RETIRE = "retire"
    DISCARD = "discard"
    GO_BACK = "go-back"


STATES: Mapping[TrustState, tuple[str, str, str]] = {
    TrustState.PREPARED: ("no", "yes", "kept sealed; every worker has it before it signs"),
    TrustState.ACTIVE: ("yes", "yes", "kept sealed, or in the operator's file"),
    TrustState.OUTGOING: ("no", "yes", "kept sealed: the way back"),
    TrustState.RETIRED: (
        "no",
        "a leaf proves its key only; a token counts only beside a valid leaf of the same agent",
        "erased",
    ),
}
"""Whether it signs, what its signatures are worth, and what becomes of its private key."""

TRUSTED = frozenset({TrustState.PREPARED, TrustState.ACTIVE, TrustState.OUTGOING})
"""States whose leaves make an agent. Also prepared: another worker may have activated it a moment ago."""


@dataclass(frozen=True, slots=True)
class Transition:
    """What a step does: to the one it is about, and to the one that is active."""

    step: Step
    of: TrustState | None
    """None: it is new."""
    becomes: TrustState
    active_becomes: TrustState = TrustState.ACTIVE
    meaning: str = ""


TRANSITIONS = (
    Transition(
        Step.PREPARE,
        None,
        TrustState.PREPARED,
        meaning="make the next one, or bring it; everybody learns to trust it, nobody gets anything from it",
    ),
    Transition(
        Step.ACTIVATE,
        TrustState.PREPARED,
        TrustState.ACTIVE,
        TrustState.OUTGOING,
        meaning="sign with it from now on; what the one before has signed stays good",
    ),
    Transition(
        Step.RETIRE,
        TrustState.OUTGOING,
        TrustState.RETIRED,
        meaning="end the one before: its signatures count no more, its private key is erased; there is no way back",
    ),
    Transition(
        Step.DISCARD,
        TrustState.PREPARED,
        TrustState.RETIRED,
        meaning="give up the next one before it signed anything; its private key is erased",
    ),
    Transition(
        Step.GO_BACK,
        TrustState.OUTGOING,
        TrustState.ACTIVE,
        TrustState.OUTGOING,
        meaning="sign with the one before again; what the newer one has signed stays good until that is retired",
    ),
)
_FORWARD = {TrustState.PREPARED: Step.ACTIVATE, TrustState.OUTGOING: Step.RETIRE}
_BACKWARD = {TrustState.PREPARED: Step.DISCARD, TrustState.OUTGOING: Step.GO_BACK}


@dataclass(frozen=True, slots=True)
class Held:
    """One that is known: its name, its state, and since when it has that."""

    name: str
    """An agent CA's SHA-256 in hex; a token key's ``kid``."""
    state: TrustState
    since: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """A step, and the one it is about; None when that is to be made."""

    kind: Kind
    step: Step
    subject: Held | None


@dataclass(frozen=True, slots=True)
class Straggler:
    """A worker that has not heard of the latest step."""

    worker_id: str
    node: str


@dataclass(frozen=True, slots=True)
class Holders:
    """Active agents whose latest leaf is good and of one authority."""

    count: int = 0
    first: tuple[str, ...] = ()
    """Names of the first hosts."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a step's consequences depend on."""

    now: datetime
    stragglers: Sequence[Straggler] = ()
    holders: Holders = Holders()
    """Of the one that the plan is about."""
    not_before: datetime | None = None
    """When the one it is about may sign; None: at any time."""
    not_after: datetime | None = None
    has_key: bool = True
    """Whether the private key of the one it is about is stored."""
    signs: tuple[datetime, datetime] | None = None
    """Between when the one that is active may sign; None: at any time."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a step should not be taken now: a sentence, with the way out."""

    sentence: str
    can_be_forced: bool = True


class NoStepError(Exception):
    """There is nothing to do in that direction. ``str()`` says what there is."""


def plan_next(kind: Kind, held: Sequence[Held], *, back: bool = False) -> Plan:
    """Return the one step that can follow, or that undoes the latest.

    Raises:
        NoStepError: nothing can be undone.
    """
    moving = moving_of(held)
    if moving is None:
        if back:
            raise NoStepError("nothing is prepared and nothing is outgoing, so there is nothing to undo")
        return Plan(kind, Step.PREPARE, None)
    return Plan(kind, (_BACKWARD if back else _FORWARD)[moving.state], moving)


def moving_of(held: Sequence[Held]) -> Held | None:
    """Return the one that is on its way in or out, None when no rotation is under way."""
    return next((each for each in held if each.state in _FORWARD), None)


def active_of(held: Sequence[Held]) -> Held | None:
    """Return the one that signs."""
    return next((each for each in held if each.state is TrustState.ACTIVE), None)


def transition_of(step: Step) -> Transition:
    """Return what a step does."""
    return next(each for each in TRANSITIONS if each.step is step)


def changes(plan: Plan, held: Sequence[Held]) -> dict[str, TrustState]:
    """Return the new states of those that are known already, by name."""
    transition = transition_of(plan.step)
    changed: dict[str, TrustState] = {}
    active = active_of(held)
    if active is not None and transition.active_becomes is not TrustState.ACTIVE:
        changed[active.name] = transition.active_becomes
    if plan.subject is not None:
        changed[plan.subject.name] = transition.becomes
    return changed


def objections(plan: Plan, situation: Situation) -> list[Objection]:
    """Return everything that speaks against taking this step now."""
    found = [*_not_everybody_knows(plan, situation), *_dates(plan, situation)]
    if plan.step is Step.GO_BACK and not situation.has_key:
        found.append(Objection("its private key is lost, so it cannot sign again", can_be_forced=False))
    if plan.step is Step.RETIRE:
        found += [*_nobody_would_sign(situation), *_still_needed(plan, situation)]
    if plan.kind is Kind.JWT and plan.step is Step.ACTIVATE:
        found += _too_early(
            plan, situation, KEYS_ARE_CACHED, "others may not have fetched it from the JWKS yet"
        )
    return found


def _not_everybody_knows(plan: Plan, situation: Situation) -> list[Objection]:
    behind = situation.stragglers
    if not behind or plan.step in {Step.PREPARE, Step.DISCARD}:
        return []
    names = ", ".join(f"{each.worker_id} on {each.node or 'an unknown node'}" for each in behind[:5])
    more = f" and {len(behind) - 5} more" if len(behind) > 5 else ""
    sentence = (
        f"{len(behind)} worker{'s have' if len(behind) > 1 else ' has'} not taken up the step before: {names}{more}. "
        "It takes a second; if it stays so, the log of that server says why (another secret than the others', "
        "or an older version)"
    )
    return [Objection(sentence)]


def _dates(plan: Plan, situation: Situation) -> list[Objection]:
    if plan.step not in {Step.ACTIVATE, Step.GO_BACK}:
        return []
    start, end, now = situation.not_before, situation.not_after, situation.now
    if start is not None and now < start:
        return [Objection(f"it is not valid before {start.isoformat()}", can_be_forced=False)]
    if end is not None and now >= end:
        return [Objection(f"it has ended at {end.isoformat()}", can_be_forced=False)]
    return []


def _nobody_would_sign(situation: Situation) -> list[Objection]:
    """The active one may have been made, and activated, while this server's clock was years away."""
    now = situation.now
    if situation.signs is None or not _is_within(now, situation.not_before, situation.not_after):
        return []
    start, end = situation.signs
    if _is_within(now, start, end):
        return []
    sentence = (
        f"the agent CA that is active signs only from {start.isoformat()} to {end.isoformat()}, so this is the one that "
        "could sign now: if this server's clock is right, let it: ct-ops-server ca rotate --back"
    )
    return [Objection(sentence)]


def _is_within(now: datetime, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or start <= now) and (end is None or now < end)


def _still_needed(plan: Plan, situation: Situation) -> list[Objection]:
    if plan.kind is Kind.JWT:
        return _too_early(plan, situation, TOKENS_LIVE, "agents still hold tokens that it signed")
    count = situation.holders.count
    if not count:
        return []
    hosts = ", ".join(situation.holders.first)
    more = ", …" if count > len(situation.holders.first) else ""
    sentence = (
        f"{count} active agent{'s hold' if count > 1 else ' holds'} a good leaf of it: {hosts}{more}. They get new ones "
        "by themselves before theirs end; retired now, each must first prove its key and register again"
    )
    return [Objection(sentence)]


def _too_early(plan: Plan, situation: Situation, wait: timedelta, why: str) -> list[Objection]:
    assert plan.subject is not None
    ready_at = plan.subject.since + wait
    if situation.now >= ready_at:
        return []
    return [Objection(f"{why}: wait until {ready_at.isoformat(timespec='seconds')}")]


def states_markdown() -> str:
    """Return what each state is worth, for the documentation."""
    rows = [f"| `{state}` | {' | '.join(words)} |" for state, words in STATES.items()]
    return "\n".join(("| state | signs | its signatures count | private key |", "|---|---|---|---|", *rows))


def steps_markdown() -> str:
    """Return what each step does, for the documentation."""
    rows = [
        f"| `{each.step}` | {each.of or 'new'} | {each.becomes} | {each.active_becomes} | {each.meaning} |"
        for each in TRANSITIONS
    ]
    head = "| step | of one that is | it becomes | the active one becomes | that is to |"
    return "\n".join((head, "|---|---|---|---|---|", *rows))

"""The operators' desk of the authority: what there is, the one step that can follow, and taking it.

A step is planned and taken in two requests: ``preview`` says what it would do and what speaks against it, ``take``
does it, unless another step was taken since. What may follow is ``life_cycle``'s decision; new keys are made or
looked at here, and stored sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ct_ops_server.authority.decided import recognised, step_taken
from ct_ops_server.authority.issuer import (
    chain_pem,
    dates_of,
    name_of,
    parse_chain,
    sha256_of,
)
from ct_ops_server.authority.life_cycle import (
    Held,
    Holders,
    Kind,
    Objection,
    Plan,
    Situation,
    Step,
    Straggler,
    TrustState,
    active_of,
    changes,
    objections,
    plan_next,
)
from ct_ops_server.authority.ports import TOPIC, Change, NewKey, Share, StoredTrust, TrustStore
from ct_ops_server.authority.preparing import preparing, same_key_in_place
from ct_ops_server.authority.recognition import recognisable
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.trust import LiveTrust

_FIRST_HOLDERS = 5
_FORWARD_STEPS = (Step.PREPARE, Step.ACTIVATE, Step.RETIRE)


class StepRefusedError(Exception):
    """The step is not taken. ``str()`` says why and what to do."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A step, and what speaks against it."""

    plan: Plan
    active: Held | None
    objections: Sequence[Objection]
    version: int


@dataclass(frozen=True, slots=True)
class AuthorityView:
    """An agent CA as operators see it."""

    name: str
    state: TrustState
    since: datetime
    subject: str
    not_before: datetime
    not_after: datetime
    chain_length: int
    agents: int
    """Active agents whose latest leaf is of it."""
    good: int
    """Those whose leaf has not ended."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything at one moment."""

    version: int
    authorities: Sequence[AuthorityView]
    signing_keys: Sequence[Held]
    agents: int
    """Active agents that have a leaf."""
    stragglers: Sequence[Straggler]


class AuthorityDesk:
    """What operators ask of the authority."""

    def __init__(
        self,
        store: TrustStore,
        live: LiveTrust,
        secret: SealingSecret,
        *,
        hint: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        """Prepare the desk; ``hint`` tells the push bus of this process that a step was taken."""
        self._hint = hint
        self._store = store
        self._live = live
        self._secret = secret
        self._now = now

    async def overview(self) -> Overview:
        """Return everything.

        Raises:
            StoreError: the store did not answer.
        """
        stored = await self._store.load()
        shares = {share.name: share for share in await self._store.shares(self._now())}
        return Overview(
            stored.version,
            [_view(each.held, each.public_pem, shares.get(each.name)) for each in stored.keys[Kind.CA]],
            stored.held(Kind.JWT),
            sum(share.agents for share in shares.values()),
            await self._store.stragglers(stored.version),
        )

    async def preview(self, kind: Kind, *, back: bool = False) -> Preview:
        """Return the step that can follow, or undo the latest.

        Raises:
            NoStepError: nothing can be undone.
            StoreError: the store did not answer.
        """
        stored = await self._store.load()
        plan = plan_next(kind, stored.held(kind), back=back)
        against = objections(plan, await self._situation(plan, stored))
        return Preview(plan, active_of(stored.held(kind)), against, stored.version)

    async def take(
        self,
        kind: Kind,
        step: Step,
        *,
        version: int,
        actor: str,
        force: bool = False,
        brought: tuple[str, str] | None = None,
    ) -> Preview:
        """Take a step that was previewed at ``version``.

        Args:
            kind: of what.
            step: the one that was previewed.
            version: as the preview says.
            actor: who takes it, for the audit log.
            force: whatever can be forced.
            brought: certificates and private key of the operator's own agent CA, in PEM form, to be prepared.

        Raises:
            StepRefusedError: it does not follow, or something speaks against it.
            TrustChangedError: another step was taken meanwhile.
            AuthorityError: what was brought cannot be used.
            NoStepError, StoreError: as ``preview``.
        """
        preview = await self.preview(kind, back=step not in _FORWARD_STEPS)
        _must_follow(preview, step)
        _must_be_allowed(preview, force=force)
        if kind is not Kind.CA and brought is not None:
            raise StepRefusedError(
                "what is brought is an agent CA, and this step is about the key of agent tokens"
            )
        if step is not Step.PREPARE and brought is not None:
            raise StepRefusedError(
                f"an agent CA is brought when one is prepared, and the next step is to {step} one"
            )
        stored = await self._store.load()
        change = self._change(preview.plan, stored, version, brought)
        name = change.new.name if change.new is not None else _subject(preview.plan)
        against = tuple(each.sentence for each in preview.objections)
        entry = step_taken(kind, step, name, actor=actor, forced_over=against)
        await self._store.change(replace(change, decisions=[entry]))
        self._hint(TOPIC)
        return preview

    async def recognise(self, pem: str, *, actor: str) -> list[str]:
        """Let leaves of an agent CA prove their keys, and nothing more; return its name, unless it was known before.

        Raises:
            NotRecognisedError: the file does not hold one that can be of use.
            TrustChangedError, StoreError: as ``take``.
        """
        stored = await self._store.load()
        known = [each for one in stored.keys[Kind.CA] for each in parse_chain(one.public_pem)]
        chain = recognisable(pem, known)
        name = sha256_of(chain[0]).hex()
        if stored.find(Kind.CA, name) is not None:
            return []
        new = NewKey(name, chain_pem(chain), TrustState.RETIRED)
        await self._store.change(Change(Kind.CA, new=new, decisions=[recognised(name, actor=actor)]))
        self._hint(TOPIC)
        return [name]

    async def _situation(self, plan: Plan, stored: StoredTrust) -> Situation:
        now, subject = self._now(), plan.subject
        stragglers = await self._store.stragglers(stored.version)
        found = None if subject is None else stored.find(plan.kind, subject.name)
        if subject is None or found is None:
            return Situation(now, stragglers)
        has_key = found.sealed_key is not None
        if plan.kind is Kind.JWT:
            return Situation(now, stragglers, has_key=has_key)
        start, end = dates_of(parse_chain(found.public_pem))
        holders = Holders()
        if plan.step is Step.RETIRE and not same_key_in_place(stored, found):
            holders = await self._store.holders(subject.name, now, first=_FIRST_HOLDERS)
        active = stored.active(Kind.CA)
        signs = None if active is None else dates_of(parse_chain(active.public_pem))
        return Situation(now, stragglers, holders, start, end, has_key, signs)

    def _change(
        self, plan: Plan, stored: StoredTrust, version: int, brought: tuple[str, str] | None
    ) -> Change:
        if plan.step is not Step.PREPARE:
            return Change(plan.kind, changes(plan, stored.held(plan.kind)), expected_version=version)
        change = preparing(
            plan.kind, stored, self._live.current, self._secret, brought=brought, now=self._now()
        )
        return replace(change, expected_version=version)


def _subject(plan: Plan) -> str:
    return "" if plan.subject is None else plan.subject.name


def _must_follow(preview: Preview, step: Step) -> None:
    expected = preview.plan.step
    if step is not expected:
        raise StepRefusedError(
            f"the step that can be taken now is to {expected}, not to {step}: look at `ca status`"
        )


def _must_be_allowed(preview: Preview, *, force: bool) -> None:
    against = [each for each in preview.objections if not (force and each.can_be_forced)]
    if against:
        way_out = "" if any(not each.can_be_forced for each in against) else ", or --force it"
        reasons = "; ".join(each.sentence for each in against)
        raise StepRefusedError(f"not done: {reasons}. Wait and ask again{way_out}")


def _view(held: Held, pem: str, share: Share | None) -> AuthorityView:
    chain = parse_chain(pem)
    start, end = dates_of(chain)
    return AuthorityView(
        name=held.name,
        state=held.state,
        since=held.since,
        subject=name_of(chain[0]),
        not_before=start,
        not_after=end,
        chain_length=len(chain),
        agents=0 if share is None else share.agents,
        good=0 if share is None else share.good,
    )

"""What really happens in a simulated fleet, beside what the server believes; and what must never be.

The ledger knows who is on a connection (`fleet_network.SPEAKER`). It watches the stores at the moments at which
something is given: an agent admitted, a leaf recorded, a stream opened, a heartbeat or a batch accepted. A thing
that must never be is written down as a *violation*, and the history has failed.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from cryptography import x509

from ct_ops_agent.identity.keystore import parse_pem
from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.authority.public_key import canonical_public_key
from ct_ops_server.enrolment import decisions
from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.enrolment.model import LeafRecord, NewAgent, NewKey, TokenRecord, TokenTerms
from ct_ops_server.fleet import items as stored
from ct_ops_server.fleet.clones import Outcome
from ct_ops_server.fleet.decisions import deleted, merged, place_taken, quarantined, status_changed, was_split
from ct_ops_server.fleet.delivery import Delivered, Delivery, Verdict
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.hurry import BETWEEN_MS, Claim
from ct_ops_server.fleet.model import (
    AgentStatus,
    HeartbeatWrite,
    StreamOpened,
    StreamOpening,
    StreamRefused,
)
from ct_ops_server.fleet.sides import Proof, SideLog
from ct_ops_server.store.carried import decision_of
from fakes.memory_anchors import MemoryAnchors
from fakes.memory_deliveries import MemoryDeliveries
from fakes.memory_hurry import MemoryHurry
from fakes.memory_store import MemoryStore, Row
from fakes.memory_trust import MemoryTrust
from simulation.fleet_audit import Chain
from simulation.fleet_network import LEAF, SPEAKER

OPERATOR = "the operator"
_BORNE = timedelta(minutes=5)
"""How far clocks may differ."""


@dataclass
class TokenTruth:
    """What was said about an enrolment token, and how often it was used."""

    terms: TokenTerms
    digest: bytes = b""
    """Of its secret."""
    uses: int = 0
    is_revoked: bool = False

    def why_not(self, new: NewAgent, now: datetime) -> str | None:
        """Return why it admits nobody like that now; None when it does."""
        terms, source = self.terms, ipaddress.ip_address(new.application.observed_address or "0.0.0.0")
        name, pattern = new.application.hostname.lower(), terms.hostname_pattern.lower()
        is_near = any(source in ipaddress.ip_network(each) for each in terms.networks)
        reasons = {
            "it was revoked": self.is_revoked,
            "it had expired": terms.expires_at is not None and terms.expires_at <= now,
            "it had no use left": terms.max_uses is not None and self.uses >= terms.max_uses,
            "it is for other networks": bool(terms.networks) and not is_near,
            "it is for other hostnames": bool(pattern) and not fnmatchcase(name, pattern),
            "it needs an approval": new.status is AgentStatus.ACTIVE and not terms.auto_approve,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)


@dataclass
class Ledger:
    """The truth about one history."""

    violations: list[str] = field(default_factory=list)
    owner: dict[str, str] = field(default_factory=dict)
    """Who an agent really is, by its id."""
    keys: dict[str, set[str]] = field(default_factory=dict)
    """The keys that agents have proven to be theirs, by agent id."""
    copies: dict[str, str] = field(default_factory=dict)
    """Hosts that run a copy of another one's agent, and of which; until an operator has decided."""
    barred: dict[str, str] = field(default_factory=dict)
    """What operators ended for good, by agent id: revoked or deleted."""
    generation: dict[str, int] = field(default_factory=dict)
    heard: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By who it really was: as which agent, and when, its last heartbeat was accepted."""
    writes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often an item of an agent was in a batch that was stored."""
    tokens: dict[str, TokenTruth] = field(default_factory=dict)
    """By id."""
    names: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By who it really was: as which agents it was heard, one after the other."""
    stored_as: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """For each item, as whose it was ever stored."""
    refused: Counter[str] = field(default_factory=Counter)
    """How many items of an agent were refused: it was told, and has logged it, whatever the server then forgets."""
    brought_by: dict[str, str] = field(default_factory=dict)
    """Whose Register made an agent, by its id."""
    heartbeats: int = 0
    hurried_s: float = float("-inf")
    """When a hurry last told an agent to renew."""
    made_to_renews: int = 0
    holders: Callable[[str], list[str]] = lambda _key_id: []
    """Who really has a key, by its id: whoever says a Register again that he has heard has not."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def violated(self, sentence: str) -> None:
        """Write a violation down."""
        self.violations.append(f"{_now_s() / 86_400:.1f} d: {sentence}")

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait for what was begun."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # ---- what the stores were asked to do, and did

    def admitted(self, new: NewAgent, now: datetime) -> None:
        """An agent was inserted."""
        self.brought_by[new.id] = speaker()
        holders, who = self.holders(new.application.key_id), speaker()
        who = who if who in holders or not holders else holders[0]
        if new.evidence.startswith("was a copy of agent") and new.token_id is None:
            if new.status is not AgentStatus.PENDING or new.id in self.owner:
                self.violated(f"{who}, who was a copy, became {new.id} without an operator's decision")
        elif new.token_id is None:
            if self.owner.get(new.id) not in {who, self.copies.get(who, who)}:
                self.violated(f"{who} came back as {new.id}, who is {self.owner.get(new.id, 'nobody')}")
            if new.status not in {AgentStatus.PENDING, AgentStatus.QUARANTINED}:
                self.violated(f"{who} came back as {new.id} without an operator's decision")
        else:
            self._redeemed(who, new, now)
        if new.id in self.barred:
            self.violated(f"{who} came back as {new.id}, which was {self.barred[new.id]}")
        if self.copies.get(who) is None or new.id not in self.owner:
            self.owner[new.id] = who
        self.keys.setdefault(new.id, set()).add(new.application.key_id)

    def _redeemed(self, who: str, new: NewAgent, now: datetime) -> None:
        token, shown = self.tokens.get(new.token_id or ""), new.application.token
        if token is None or (shown and token.digest not in {b"", secret_digest(shown)}):
            self.violated(f"{who} was admitted with a token that nobody made")
            return
        if why := token.why_not(new, now):
            self.violated(f"{who} was admitted with a token although {why}")
        if new.id in self.owner:
            self.violated(f"{who} got the id {new.id} of {self.owner[new.id]}")
        token.uses += 1

    def key_replaced(self, agent_id: str, key: NewKey) -> None:
        """An agent's key was followed by another."""
        if self.owner.get(agent_id) not in {speaker(), self.copies.get(speaker())}:
            self.violated(f"{speaker()} replaced the key of {agent_id}")
        self.keys.setdefault(agent_id, set()).add(key.key_id)

    def leaf_recorded(self, leaf: LeafRecord) -> None:
        """A leaf was issued: whoever it was handed to, it is good for its key only."""
        if leaf_key(leaf.pem) not in self.keys.get(leaf.agent_id, set()):
            self.violated(f"{speaker()} had a leaf issued that names {leaf.agent_id} for a key of others")

    def opened(self, agent_id: str, generation: int, now: datetime) -> None:
        """A stream was opened."""
        self._must_be_its_own(agent_id, "opened a stream")
        leaf_der = LEAF.get()
        if leaf_der is None:
            self.violated(f"{speaker()} opened a stream as {agent_id} without a leaf")
        elif not _is_in_its_dates(x509.load_der_x509_certificate(leaf_der), now):
            self.violated(f"{speaker()} opened a stream as {agent_id} with a leaf that is not valid")
        self.generation[agent_id] = generation

    def heartbeat(self, agent_id: str, generation: int) -> None:
        """A heartbeat was accepted."""
        self._must_be_its_own(agent_id, "was heard")
        self._must_be_current(agent_id, generation, "a heartbeat")
        self.heartbeats += 1
        self.heard[speaker()] = (agent_id, _now_s())
        names = self.names[speaker()]
        if not names or names[-1] != agent_id:
            names.append(agent_id)

    def made_to_renew(self, agent_id: str) -> None:
        """A hurry told an agent to renew: twenty a minute at most."""
        if _now_s() - self.hurried_s < BETWEEN_MS / 1000:
            self.violated(
                f"{agent_id} was made to renew {_now_s() - self.hurried_s:.1f} s after another agent"
            )
        self.hurried_s = _now_s()
        self.made_to_renews += 1

    def delivered(self, delivery: Delivery, delivered: Delivered) -> None:
        """A batch was stored."""
        self._must_be_its_own(delivery.agent_id, "delivered")
        self._must_be_current(delivery.agent_id, delivery.generation, "a batch")
        if delivered.is_new:
            things = [thing_of(item) for _, item in delivery.items if not isinstance(item, stored.Gap)]
            self.refused[delivery.agent_id] += len(delivered.refused)
            self.writes.update((delivery.agent_id, thing) for thing in things)
            for thing in things:
                self.stored_as[thing].add(delivery.agent_id)

    def went_back(self) -> None:
        """The server was restored: generations begin anew, far above those of the backup."""
        self.generation.clear()

    def _must_be_its_own(self, agent_id: str, deed: str) -> None:
        who = speaker()
        if self.owner.get(agent_id) not in {who, self.copies.get(who, who)}:
            self.violated(f"{who} {deed} as {agent_id}, who is {self.owner.get(agent_id, 'nobody')}")
        if agent_id in self.barred:
            self.violated(f"{who} {deed} as {agent_id}, which was {self.barred[agent_id]}")

    def _must_be_current(self, agent_id: str, generation: int, what: str) -> None:
        latest = self.generation.get(agent_id, generation)
        if generation != latest:
            self.violated(
                f"{what} of stream {generation} of {agent_id} was accepted after {latest} had begun"
            )


class WatchedStore(MemoryStore):
    """The store in memory; the ledger sees what it does."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime], chain: Chain) -> None:
        super().__init__(now)
        self._ledger = ledger
        self._chain = chain

    async def open_stream(self, opening: StreamOpening) -> StreamOpened | StreamRefused:
        answer = await super().open_stream(opening)
        if isinstance(answer, StreamOpened):
            self._ledger.opened(opening.agent_id, answer.generation, self._now())
        return answer

    async def record_heartbeat(self, write: HeartbeatWrite, *, patience_s: float = 0.0) -> bool:
        is_accepted = await super().record_heartbeat(write, patience_s=patience_s)
        if is_accepted:
            self._ledger.heartbeat(write.agent_id, write.generation)
        return is_accepted

    async def admit(self, new: NewAgent, *, leaf: LeafRecord | None) -> None:
        await super().admit(new, leaf=leaf)
        self._chain.note([decisions.admitted(new, leaf)])
        self._ledger.admitted(new, self._now())
        if leaf is not None:
            self._ledger.leaf_recorded(leaf)

    async def replace_key(self, agent_id: str, old_key_id: str, key: NewKey, leaf: LeafRecord) -> bool:
        is_replaced = await super().replace_key(agent_id, old_key_id, key, leaf)
        if is_replaced:
            self._chain.note([decisions.key_replaced(agent_id, old_key_id, key, leaf)])
            self._ledger.key_replaced(agent_id, key)
            self._ledger.leaf_recorded(leaf)
        return is_replaced

    async def record_leaf(self, leaf: LeafRecord) -> None:
        await super().record_leaf(leaf)
        self._chain.note([decisions.leaf_given(leaf, leaf.occasion)])
        self._ledger.leaf_recorded(leaf)

    async def record_answered(self, answered: AnsweredRequest) -> bool:
        again = await self.find_answered(answered.request_id) is not None
        is_recorded = await super().record_answered(answered)
        if is_recorded:
            self._chain.note([decision_of(answered, again=again)])
        return is_recorded

    async def create_token(
        self,
        token_id: str,
        digest: bytes,
        terms: TokenTerms,
        *,
        actor: str,
        uses: int = 0,
        is_imported: bool = False,
    ) -> TokenRecord | None:
        made = await super().create_token(
            token_id, digest, terms, actor=actor, uses=uses, is_imported=is_imported
        )
        self._chain.note([decisions.token_made(token_id, terms, actor=actor)] if made else [])
        if made:
            self._ledger.tokens[token_id] = TokenTruth(terms, digest)
        return made

    async def revoke_token(self, token_id: str, *, actor: str, reason: str) -> bool:
        is_revoked = await super().revoke_token(token_id, actor=actor, reason=reason)
        said = decisions.token_revoked(token_id, actor=actor, reason=reason)
        self._chain.note([said] if is_revoked else [])
        return is_revoked

    async def change_status(
        self, agent_id: str, *, allowed_from: frozenset[AgentStatus], to: AgentStatus, actor: str, reason: str
    ) -> AgentStatus | None:
        found = await super().change_status(
            agent_id, allowed_from=allowed_from, to=to, actor=actor, reason=reason
        )
        if found is not None and found in allowed_from:
            key_id, hostname = self._named(agent_id)
            verdict = status_changed(
                agent_id, key_id=key_id, hostname=hostname, found=found, to=to, actor=actor, reason=reason
            )
            self._chain.note([verdict])
        return found

    async def delete_agent(self, agent_id: str, *, actor: str, reason: str) -> bool:
        key_id, hostname = self._named(agent_id)
        found = await self.agent_status(agent_id)
        is_deleted = await super().delete_agent(agent_id, actor=actor, reason=reason)
        if is_deleted and found is not None:
            said = deleted(
                agent_id, key_id=key_id, hostname=hostname, found=found, actor=actor, reason=reason
            )
            self._chain.note([said])
        return is_deleted

    def _sight(self, row: Row, opening: StreamOpening) -> bool:
        is_clone = super()._sight(row, opening)
        if is_clone:
            self._chain.note([quarantined(row.id, row.sides, Proof(row.sides.why))])
        return is_clone

    async def split(self, agent_id: str, log: SideLog, place: int, *, actor: str, reason: str) -> Outcome:
        key_id, _ = self._named(agent_id)
        outcome = await super().split(agent_id, log, place, actor=actor, reason=reason)
        if outcome is Outcome.DONE:
            self._chain.note([was_split(agent_id, key_id, log.seen[place].side, actor=actor, reason=reason)])
        return outcome

    async def merge(self, kept: str, other: str, *, actor: str, reason: str) -> Outcome:
        key_id, hostname = self._named(other)
        outcome = await super().merge(kept, other, actor=actor, reason=reason)
        if outcome is Outcome.DONE:
            said = merged(kept, other, key_id=key_id, hostname=hostname, actor=actor, reason=reason)
            self._chain.note(said)
        return outcome

    async def replace(self, old: str, new: str, *, actor: str, reason: str) -> Outcome:
        old_key_id, hostname = self._named(old)
        outcome = await super().replace(old, new, actor=actor, reason=reason)
        if outcome is Outcome.DONE:
            application = self._rows[old].application
            said = place_taken(
                old,
                new,
                key=(application.key_id, application.public_key_der),
                old_key_id=old_key_id,
                hostname=hostname,
                actor=actor,
                reason=reason,
            )
            self._chain.note([said])
            self._ledger.keys.setdefault(old, set()).add(application.key_id)
        return outcome

    def _named(self, agent_id: str) -> tuple[str, str]:
        row = self._rows.get(agent_id)
        return ("", "") if row is None else (row.application.key_id, row.application.hostname)


class WatchedHurry(MemoryHurry):
    """A hurry in memory; the ledger sees who is made to renew."""

    def __init__(
        self,
        ledger: Ledger,
        store: MemoryStore,
        trust: MemoryTrust,
        anchors: MemoryAnchors,
        *,
        now: Callable[[], datetime],
        chain: Chain,
    ) -> None:
        super().__init__(store, trust, anchors, now=now, note=chain.note)
        self._ledger = ledger

    async def claim_hurried(self, streams: Sequence[LiveStream]) -> Sequence[Claim]:
        claims = await super().claim_hurried(streams)
        for claim in claims:
            self._ledger.made_to_renew(claim.stream.agent_id)
        return claims


class WatchedDeliveries(MemoryDeliveries):
    """Deliveries in memory; the ledger sees what is stored."""

    def __init__(
        self, ledger: Ledger, is_current: Callable[[str, int], bool], *, now: Callable[[], datetime]
    ) -> None:
        super().__init__(is_current, now=now)
        self._ledger = ledger

    async def deliver(self, delivery: Delivery) -> Delivered:
        delivered = await super().deliver(delivery)
        if delivered.verdict is Verdict.STORED:
            self._ledger.delivered(delivery, delivered)
        return delivered


def speaker() -> str:
    """Return who is really on the connection that is being served."""
    return SPEAKER.get(OPERATOR)


def thing_of(item: stored.Item) -> str:
    """Return what a history calls an item."""
    if isinstance(item, stored.Sample):
        return item.series
    assert isinstance(item, stored.CheckResult)
    return item.check_id


def leaf_key(leaf_pem: str) -> str:
    """Return the key id that a leaf is about."""
    der = next(der for label, der in parse_pem(leaf_pem) if label == "CERTIFICATE")
    return canonical_public_key(x509.load_der_x509_certificate(der).public_key()).key_id


def _is_in_its_dates(leaf: x509.Certificate, now: datetime) -> bool:
    return leaf.not_valid_before_utc - _BORNE <= now <= leaf.not_valid_after_utc + _BORNE


def _now_s() -> float:
    return asyncio.get_running_loop().time()

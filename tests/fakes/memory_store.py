"""A store in memory, for tests of flows: every port, the same contract suite as the real ones.

Nothing here awaits, so every method is atomic by itself. ``snapshot`` and ``restore`` take it back in time, as a
restored backup does.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.authority.ca import LEAF_LIFETIME
from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.enrolment.model import (
    AdmittedAgent,
    Application,
    Collision,
    EnrolledAgent,
    Findings,
    LeafRecord,
    NewAgent,
    NewKey,
)
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError, TooManyPendingError
from ct_ops_server.fleet.clones import Outcome
from ct_ops_server.fleet.model import (
    Agent,
    AgentStatus,
    DeletedAgent,
    Ending,
    Facts,
    HeartbeatWrite,
    StatusChange,
    StreamClosing,
    StreamOpened,
    StreamOpening,
    StreamRefused,
    Tag,
    Vitals,
)
from ct_ops_server.fleet.ports import WriteRefusedError
from ct_ops_server.fleet.sides import (
    SENTENCES,
    Proof,
    SideLog,
    Sight,
    is_served,
    judge,
    key_followed,
    quarantined,
    split,
)
from ct_ops_server.store.values import to_ms
from fakes.memory_tokens import MemoryTokens

LEASE_LIFETIME = timedelta(seconds=15)
MOST_PENDING = 1_000


@dataclass
class Row:
    """One agent."""

    id: str
    application: Application
    status: AgentStatus
    created_at: datetime
    tags: tuple[Tag, ...]
    evidence: str
    generation: int = 0
    online: bool = False
    worker_id: str | None = None
    last_seen_at: datetime | None = None
    vitals: Vitals | None = None
    facts: Facts | None = None
    clock_skew: timedelta | None = None
    token_id: str | None = None
    sides: SideLog = field(default_factory=SideLog)
    history: list[StatusChange] = field(default_factory=list)
    leaves: list[LeafRecord] = field(default_factory=list)

    def youngest_leaf(self) -> LeafRecord | None:
        return max(self.leaves, key=lambda leaf: (leaf.issued_at, leaf.not_after), default=None)


@dataclass(frozen=True)
class StoreState:
    """What a backup of this store would hold."""

    attributes: dict[str, object]


_KEPT = (
    "_rows",
    "_leases",
    "_deleted",
    "_endings",
    "_tokens",
    "_digests",
    "_refusals",
    "_answered",
    "_split_keys",
    "_followed_keys",
    "_replaced_keys",
)


class MemoryStore(MemoryTokens):
    """Everything in dictionaries, by a clock that the test may hold."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(now)
        self._rows: dict[str, Row] = {}
        self._leases: dict[str, datetime] = {}
        self._deleted: list[tuple[str, DeletedAgent]] = []
        self._endings: list[tuple[int, str, str, datetime]] = []
        self._answered: dict[str, AnsweredRequest] = {}
        self._split_keys: dict[str, str] = {}
        self._followed_keys: set[str] = set()
        """Of those, whose agent has another key, as a restored store was told."""
        self._replaced_keys: set[str] = set()
        self.stored_seqs: dict[tuple[str, str], int] = {}
        """How far the outboxes of agents are stored, for tests."""

    # CarriedStore

    async def find_answered(self, request_id: str) -> AnsweredRequest | None:
        return self._answered.get(request_id)

    async def record_answered(self, answered: AnsweredRequest) -> bool:
        first = self._answered.setdefault(answered.request_id, answered)
        return (first.digest, first.leaf_sha256) == (answered.digest, answered.leaf_sha256)

    def snapshot(self) -> StoreState:
        """Return a backup."""
        return StoreState(copy.deepcopy({name: getattr(self, name) for name in _KEPT}))

    def restore(self, backup: StoreState) -> None:
        """Go back to a backup."""
        for name, value in copy.deepcopy(backup.attributes).items():
            setattr(self, name, value)

    def settle(self) -> None:
        """Be a restored store: nobody is connected, and generations are above all that there were."""
        self._leases = {}
        for row in self._rows.values():
            row.online, row.worker_id = False, None
            row.generation += 1 << 32

    # StreamStore

    async def open_stream(self, opening: StreamOpening) -> StreamOpened | StreamRefused:
        row = self._rows.get(opening.agent_id)
        if row is None:
            return StreamRefused(None)
        key_replaced = row.application.key_id != opening.key_id
        if not self._serves(row, opening):
            is_active = row.status is AgentStatus.ACTIVE
            return StreamRefused(row.status, key_replaced=key_replaced, split_off=is_active)
        if row.status is AgentStatus.QUARANTINED and not key_replaced:
            self._sight(row, opening)
        if row.status is not AgentStatus.ACTIVE or key_replaced:
            return StreamRefused(row.status, key_replaced=key_replaced)
        if self._sight(row, opening):
            return StreamRefused(AgentStatus.QUARANTINED, clone_found=True)
        row.generation += 1
        row.online, row.worker_id, row.last_seen_at = True, opening.worker_id, self._now()
        can_rotate = opening.side is not None and bool(opening.side.process_id)
        must_rotate = row.sides.kept is not None and can_rotate
        return StreamOpened(row.generation, must_rotate=must_rotate)

    def _serves(self, row: Row, opening: StreamOpening) -> bool:
        if row.application.key_id != opening.key_id:
            return opening.key_id not in row.sides.split_keys
        return is_served(row.sides, opening.side)

    def _sight(self, row: Row, opening: StreamOpening) -> bool:
        """Write down who opens a stream; True: a clone, which is quarantined now."""
        if opening.side is None:
            return False
        now_ms = to_ms(self._now())
        interval_ms = None if opening.interval is None else int(opening.interval.total_seconds() * 1000)
        stored = self.stored_seqs.get((row.id, opening.side.outbox_id), 0)
        judged = judge(row.sides, Sight(opening.side, now_ms, interval_ms, row.online, stored))
        row.sides = judged.log
        if judged.proof is None:
            return False
        row.sides = quarantined(judged.log, judged.proof, now_ms)
        self._set_status(row, AgentStatus.QUARANTINED)
        reason = SENTENCES[judged.proof]
        row.history.append(StatusChange(self._now(), AgentStatus.QUARANTINED, "clone detection", reason))
        self._end(row.id, "quarantined")
        return True

    # CloneStore

    async def sides(self, agent_id: str) -> SideLog:
        row = self._rows.get(agent_id)
        return SideLog() if row is None else row.sides

    async def logs_of_quarantined(self) -> Sequence[tuple[str, SideLog]]:
        rows = [row for row in self._rows.values() if row.status is AgentStatus.QUARANTINED]
        return sorted(((row.id, row.sides) for row in rows), key=lambda each: (-each[1].since_ms, each[0]))

    async def record_heartbeat(self, write: HeartbeatWrite, *, patience_s: float = 0.0) -> bool:
        del patience_s  # here nothing is shared
        row = self._rows.get(write.agent_id)
        if row is None or (row.generation, row.status) != (write.generation, AgentStatus.ACTIVE):
            return False
        row.online, row.last_seen_at, row.vitals = True, self._now(), write.vitals
        row.facts, row.clock_skew = write.facts or row.facts, write.clock_skew
        return True

    def is_current(self, agent_id: str, generation: int) -> bool:
        """Tell whether a stream may write: for the other fakes."""
        row = self._rows.get(agent_id)
        return row is not None and (row.generation, row.status) == (generation, AgentStatus.ACTIVE)

    async def close_stream(self, closing: StreamClosing) -> None:
        row = self._rows.get(closing.agent_id)
        if row is not None and row.generation == closing.generation:
            row.online, row.worker_id = False, None

    async def agent_status(self, agent_id: str) -> AgentStatus | None:
        row = self._rows.get(agent_id)
        return None if row is None else row.status

    def rows(self) -> list[Row]:
        """Return every agent, for the other fakes."""
        return list(self._rows.values())

    def find_row(self, agent_id: str) -> Row | None:
        """Return an agent, if there is one (still), for the other fakes."""
        return self._rows.get(agent_id)

    def row(self, agent_id: str) -> Row:
        """Return an agent that there is, for the other fakes."""
        return self._rows[agent_id]

    def knows(self, agent_id: str) -> bool:
        """Tell whether there is such an agent (still)."""
        return agent_id in self._rows

    # EndingStore

    async def last_ending(self) -> int:
        return len(self._endings)

    async def endings_after(self, number: int) -> Sequence[Ending]:
        now = self._now()
        return [
            Ending(each, agent_id, reason, now - at)
            for each, agent_id, reason, at in self._endings
            if each > number
        ]

    # PresenceStore

    async def renew_lease(self, worker_id: str) -> None:
        self._leases[worker_id] = self._now()

    async def drop_lease(self, worker_id: str) -> None:
        self._leases.pop(worker_id, None)
        for row in self._rows.values():
            if row.online and row.worker_id == worker_id:
                row.online, row.worker_id = False, None

    async def sweep(self, *, lease_timeout: timedelta) -> list[str]:
        oldest = self._now() - lease_timeout
        self._leases = {worker: lease for worker, lease in self._leases.items() if lease > oldest}
        orphans = [row for row in self._rows.values() if row.online and row.worker_id not in self._leases]
        for row in orphans:
            row.online = False
        return sorted(row.id for row in orphans)

    def has_lease(self, worker_id: str) -> bool:
        """Tell whether a worker has a lease, young or not."""
        return worker_id in self._leases

    def living_workers(self) -> list[str]:
        """Return the workers whose lease is young."""
        oldest = self._now() - LEASE_LIFETIME
        return sorted(worker_id for worker_id, lease in self._leases.items() if lease > oldest)

    def latest_leaves(self) -> list[tuple[Agent, LeafRecord]]:
        """Return every agent that has a leaf, with its youngest."""
        return [(self._agent(row), leaf) for row in self._rows.values() if (leaf := row.youngest_leaf())]

    def count_leaves_as(self, before: bytes, new: bytes) -> None:
        """Have every leaf of one agent CA count as one of another."""
        for row in self._rows.values():
            row.leaves = [
                replace(leaf, authority_sha256=new) if leaf.authority_sha256 == before else leaf
                for leaf in row.leaves
            ]

    def all_agents(self) -> list[Agent]:
        """Return every agent, for simulations."""
        return [self._agent(row) for row in self._rows.values()]

    async def age_lease(self, worker_id: str, age: timedelta) -> None:
        """Make a lease older, for tests."""
        self._leases[worker_id] -= age

    # AgentStore

    async def list_agents(self, *, status: AgentStatus | None = None) -> Sequence[Agent]:
        rows = [row for row in self._rows.values() if status in {None, row.status}]
        agents = [replace(self._agent(row), facts=None) for row in rows]
        return sorted(agents, key=lambda agent: (agent.hostname, agent.id))

    async def find_agents(self, selector: str) -> Sequence[Agent]:
        if not selector:
            return []
        rows = self._rows.values()
        named = [row for row in rows if row.id == selector]
        begun = [row for row in rows if row.id.startswith(selector)]
        hosts = [row for row in rows if row.application.hostname == selector]
        return [self._agent(row) for row in sorted(named or begun or hosts, key=lambda row: row.id)]

    async def hosts_starting_with(self, prefix: str) -> Sequence[tuple[str, str]]:
        rows = (row for row in self._rows.values() if row.application.hostname.startswith(prefix))
        return sorted(((row.id, row.application.hostname) for row in rows), key=lambda host: host[::-1])

    async def count_by_status(self) -> Mapping[AgentStatus, int]:
        return Counter(row.status for row in self._rows.values())

    async def change_status(
        self, agent_id: str, *, allowed_from: frozenset[AgentStatus], to: AgentStatus, actor: str, reason: str
    ) -> AgentStatus | None:
        row = self._rows.get(agent_id)
        if row is None:
            return None
        found = row.status
        if found in allowed_from:
            self._set_status(row, to)
            if found is AgentStatus.QUARANTINED:
                row.sides = SideLog()
            row.history.append(StatusChange(self._now(), to, actor, reason))
            if to is AgentStatus.REVOKED:
                self._end(row.id, "revoked")
        return found

    async def delete_agent(self, agent_id: str, *, actor: str, reason: str) -> bool:
        if agent_id not in self._rows:
            return False
        self._bury(agent_id, actor, reason)
        return True

    def _bury(self, agent_id: str, actor: str, reason: str) -> None:
        row = self._rows.pop(agent_id)
        left = DeletedAgent(
            id=row.id,
            hostname=row.application.hostname,
            status=row.status,
            deleted_at=self._now(),
            actor=actor,
            reason=reason,
            history=tuple(row.history),
        )
        self._deleted.append((row.application.key_id, left))
        self._end(agent_id, "unknown_agent")

    async def deleted_agents(self) -> Sequence[DeletedAgent]:
        return [left for _, left in reversed(self._deleted)]

    async def status_history(self, agent_id: str) -> Sequence[StatusChange]:
        row = self._rows.get(agent_id)
        return [] if row is None else list(row.history)

    # SuccessionStore

    async def split(self, agent_id: str, log: SideLog, place: int, *, actor: str, reason: str) -> Outcome:
        row = self._rows.get(agent_id)
        if row is None:
            return Outcome.GONE
        if row.status is not AgentStatus.QUARANTINED:
            return Outcome.CHANGED
        row.status, row.sides = AgentStatus.ACTIVE, split(log, place)
        self._split_keys[row.application.key_id] = agent_id
        row.history.append(StatusChange(self._now(), row.status, actor, f"split ({reason})"))
        return Outcome.DONE

    async def merge(self, kept: str, other: str, *, actor: str, reason: str) -> Outcome:
        first, second = self._rows.get(kept), self._rows.get(other)
        if first is None or second is None:
            return Outcome.GONE
        if AgentStatus.REVOKED in {first.status, second.status}:
            return Outcome.CHANGED
        self._set_status(second, AgentStatus.REVOKED)
        second.evidence = f"merged into agent {kept}"
        for row, text in (
            (second, f"merged into agent {kept}"),
            (first, f"agent {other} was merged into it"),
        ):
            row.history.append(StatusChange(self._now(), row.status, actor, f"{text} ({reason})"))
        self._end(other, "revoked")
        return Outcome.DONE

    async def replace(self, old: str, new: str, *, actor: str, reason: str) -> Outcome:
        first, second = self._rows.get(old), self._rows.get(new)
        if first is None or second is None:
            return Outcome.GONE
        states = {first.status, second.status}
        if AgentStatus.REVOKED in states or second.status is AgentStatus.QUARANTINED:
            return Outcome.CHANGED
        self._bury(new, actor, reason)
        self._replaced_keys.add(first.application.key_id)
        self._set_status(first, AgentStatus.PENDING)
        first.application = replace(second.application, hostname=first.application.hostname)
        first.status, first.evidence, first.sides = AgentStatus.ACTIVE, "", SideLog()
        first.leaves, first.facts = [], None
        first.history.append(StatusChange(self._now(), first.status, actor, f"new hardware ({reason})"))
        self._end(old, "key_replaced")
        return Outcome.DONE

    # TokenStore, its last method

    async def admitted_agents(self, token_id: str, *, limit: int) -> Sequence[AdmittedAgent]:
        rows = [row for row in reversed(self._rows.values()) if row.token_id == token_id]
        return [
            AdmittedAgent(row.id, row.application.hostname, row.status, row.created_at)
            for row in rows[:limit]
        ]

    # EnrolmentStore

    async def find_agent(self, key_id: str) -> EnrolledAgent | None:
        row = next((row for row in self._rows.values() if row.application.key_id == key_id), None)
        if row is None:
            return None
        leaf = row.youngest_leaf()
        return EnrolledAgent(
            id=row.id,
            status=row.status,
            leaf_pem=leaf.pem if leaf else None,
            leaf_sha256=leaf.sha256 if leaf else None,
            leaf_issued_at=leaf.issued_at if leaf else None,
            leaf_not_after=leaf.not_after if leaf else None,
            leaf_authority_sha256=leaf.authority_sha256 if leaf else None,
            public_key_der=row.application.public_key_der,
        )

    async def look_up(self, application: Application) -> Findings:
        known = await self.find_agent(application.key_id)
        digest = secret_digest(application.token) if application.token else b""
        token = await self.find_token(digest)
        if known is not None:
            return Findings(known=known, token=token)
        presented = application.presented_key_id or application.key_id
        return Findings(
            token=token,
            collision=self._collision(application),
            key_is_barred=self._is_barred(application.key_id),
            leaf_agent_is_taken=self._is_taken(application.leaf_agent_id),
            split_from=self._split_keys.get(presented),
            split_is_open=presented in self._split_keys and presented not in self._followed_keys,
        )

    async def admit(self, new: NewAgent, *, leaf: LeafRecord | None) -> None:
        key_id = new.application.key_id
        is_known = await self.find_agent(key_id) is not None
        is_split = self._split_keys.get(key_id, new.id) != new.id or key_id in self._followed_keys
        if self._is_taken(new.id) or is_known or is_split or self._is_barred(key_id):
            raise KeyAlreadyEnrolledError
        if new.token_id is not None:
            if new.status is AgentStatus.PENDING and self._waiting(new.token_id) >= MOST_PENDING:
                self.check(new.token_id)
                raise TooManyPendingError
            self.redeem(new.token_id)
        row = Row(new.id, new.application, new.status, self._now(), _one_a_key(new.tags), new.evidence)
        row.token_id = new.token_id
        reason = new.evidence or f"enrolment token {new.token_id}"
        row.history.append(StatusChange(self._now(), new.status, "enrolment", reason))
        row.leaves += [] if leaf is None else [leaf]
        if new.status is AgentStatus.QUARANTINED:
            row.sides = quarantined(SideLog(), Proof.SPLIT_AFTER_BACKUP, to_ms(self._now()))
        self._rows[new.id] = row

    async def replace_key(self, agent_id: str, old_key_id: str, key: NewKey, leaf: LeafRecord) -> bool:
        is_taken = await self.find_agent(key.key_id) is not None
        if is_taken or self._is_barred(key.key_id) or key.key_id in self._split_keys:
            raise KeyAlreadyEnrolledError
        row = self._rows.get(agent_id)
        if row is None or (row.status, row.application.key_id) != (AgentStatus.ACTIVE, old_key_id):
            return False
        row.application = replace(row.application, key_id=key.key_id, public_key_der=key.public_key_der)
        row.sides = key_followed(row.sides, old_key_id)
        row.leaves.append(leaf)
        reason = f"key {old_key_id[:16]}… followed by {key.key_id[:16]}…"
        row.history.append(StatusChange(self._now(), row.status, "agent", reason))
        return True

    async def record_leaf(self, leaf: LeafRecord) -> None:
        row = self._rows.get(leaf.agent_id)
        if row is None:
            raise WriteRefusedError("there is no such agent")
        row.leaves = [
            kept
            for kept in row.leaves
            if kept.not_after >= leaf.issued_at and kept.issued_at <= leaf.issued_at + LEAF_LIFETIME
        ]
        row.leaves.append(leaf)

    async def refresh_facts(self, agent_id: str, application: Application) -> None:
        row = self._rows.get(agent_id)
        if row is not None:
            key, der = row.application.key_id, row.application.public_key_der
            row.application = replace(application, key_id=key, public_key_der=der)

    def _agent(self, row: Row) -> Agent:
        leaf = row.youngest_leaf()
        return Agent(
            id=row.id,
            hostname=row.application.hostname,
            status=row.status,
            online=self.is_online(row),
            last_seen_at=row.last_seen_at,
            created_at=row.created_at,
            key_id=row.application.key_id,
            observed_address=row.application.observed_address,
            tags=row.tags,
            claimed_tags=row.application.claimed_tags,
            evidence=row.evidence,
            vitals=row.vitals,
            facts=row.facts,
            leaf_not_after=leaf.not_after if leaf else None,
            clock_skew=row.clock_skew,
            token_id=row.token_id,
        )

    def _collision(self, application: Application) -> Collision | None:
        twins = [
            Collision(
                row.id,
                self.is_online(row),
                bool(application.observed_address)
                and (theirs.hostname, theirs.observed_address)
                == (application.hostname, application.observed_address),
                bool(application.machine_id) and theirs.machine_id == application.machine_id,
            )
            for row in sorted(self._rows.values(), key=lambda row: row.id)
            for theirs in [row.application]
            if row.status is not AgentStatus.REVOKED
            and (
                theirs.hostname == application.hostname
                or (application.machine_id and theirs.machine_id == application.machine_id)
            )
        ]
        return max(twins, key=lambda twin: (twin.is_live_twin, twin.live, twin.same_machine), default=None)

    def _waiting(self, token_id: str) -> int:
        return sum(
            (row.token_id, row.status) == (token_id, AgentStatus.PENDING) for row in self._rows.values()
        )

    def _is_barred(self, key_id: str) -> bool:
        if key_id in self._replaced_keys:
            return True
        return any(key == key_id and left.status is AgentStatus.REVOKED for key, left in self._deleted)

    def _is_taken(self, agent_id: str | None) -> bool:
        return agent_id in self._rows or any(left.id == agent_id for _, left in self._deleted)

    def _end(self, agent_id: str, reason: str) -> None:
        self._endings.append((len(self._endings) + 1, agent_id, reason, self._now()))

    def is_online(self, row: Row) -> bool:
        """Tell whether an agent has a stream of a worker that lives, for the other fakes."""
        oldest = self._now() - LEASE_LIFETIME
        return row.online and any(lease > oldest for lease in self._leases.values())

    def _set_status(self, row: Row, to: AgentStatus) -> None:
        if row.status is AgentStatus.ACTIVE and to is not AgentStatus.ACTIVE:
            row.generation += 1
            row.online, row.worker_id = False, None
        row.status = to


def _one_a_key(tags: Iterable[Tag]) -> tuple[Tag, ...]:
    values = {tag.key: tag.value for tag in tags}
    return tuple(Tag(key, values[key]) for key in sorted(values))

"""The rows of a hurry, in memory: the same contract suite as the real ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.authority.life_cycle import Kind, TrustState
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.hurry import BACK_WITHIN_MS, Act, Claim, Hurry, HurryState, decide
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_anchors import MemoryAnchors
from fakes.memory_store import MemoryStore, Row
from fakes.memory_trust import MemoryTrust

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_PICK_LASTS = timedelta(minutes=1)


@dataclass
class _Hurried:
    """An agent that was picked."""

    generation: int
    picked_at: datetime
    pushed_at: datetime | None = None
    back_at: datetime | None = None
    excused: bool = False


@dataclass
class HurryRows:
    """What a backup of this store would hold."""

    target: bytes = b""
    state: HurryState | None = None
    reason: str = ""
    started_by: str = ""
    started_at: datetime = _NEVER
    last_sent_at: datetime | None = None
    hurried: dict[str, _Hurried] = field(default_factory=dict)


class MemoryHurry:
    """``fleet.hurry.HurryStore`` in dictionaries. No agent has a task here."""

    def __init__(
        self,
        store: MemoryStore,
        trust: MemoryTrust,
        anchors: MemoryAnchors,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        note: Callable[[Sequence[Decision]], None] = lambda _decisions: None,
    ) -> None:
        self._store, self._trust, self._anchors = store, trust, anchors
        self._now = now
        self._note = note
        self._rows = HurryRows()
        trust.renewed.append(self._follow)

    def snapshot(self) -> HurryRows:
        """Return a backup."""
        return copy.deepcopy(self._rows)

    def restore(self, backup: HurryRows) -> None:
        """Go back to a backup."""
        self._rows = copy.deepcopy(backup)

    def later(self, span: timedelta) -> None:
        """Let time pass for the hurry, for tests."""
        rows = self._rows
        rows.last_sent_at = None if rows.last_sent_at is None else rows.last_sent_at - span
        for each in rows.hurried.values():
            each.picked_at -= span
            each.pushed_at = None if each.pushed_at is None else each.pushed_at - span

    async def start_hurry(self, *, actor: str) -> None:
        target, rows = await self._active(), self._rows
        if rows.target != target:
            rows.hurried = {}
        for each in self._missing():
            rows.hurried[each].excused = True
        rows.target, rows.state, rows.reason = target, HurryState.RUNNING, ""
        rows.started_by, rows.started_at, rows.last_sent_at = actor, self._now(), None
        self._note([Decision(Action.CA_HURRIED, actor, subject=target.hex())])

    async def stop_hurry(self, *, actor: str) -> bool:
        if self._rows.state not in {HurryState.RUNNING, HurryState.HALTED}:
            return False
        self._end(HurryState.STOPPED, f"stopped by {actor}")
        self._note([Decision(Action.CA_HURRY_STOPPED, actor)])
        return True

    async def hurry(self) -> Hurry | None:
        rows = self._rows
        if rows.state is None:
            return None
        remaining = self._remaining()
        return Hurry(
            target=rows.target,
            state=rows.state,
            reason=rows.reason,
            started_by=rows.started_by,
            started_at=rows.started_at,
            asked=sum(each.pushed_at is not None for each in rows.hurried.values()),
            back=sum(each.back_at is not None for each in rows.hurried.values()),
            missing=tuple(sorted(self._store.row(each).application.hostname for each in self._missing())),
            remaining=len(remaining),
            left_alone=sum(self.stays_down(row) for row in remaining),
        )

    async def step_hurry(self) -> HurryState | None:
        rows = self._rows
        if rows.state is not HurryState.RUNNING:
            return rows.state
        self._look_at_those_who_were_picked()
        if await self._active() != rows.target:
            return self._end(HurryState.STOPPED, "this agent CA does not sign any more")
        missing = len(self._missing())
        last_sent_ms = None if rows.last_sent_at is None else self._ms(rows.last_sent_at)
        act = decide(now_ms=self._ms(self._now()), last_sent_ms=last_sent_ms, missing=missing)
        if act is Act.HALT:
            return self._end(HurryState.HALTED, f"{missing} agents are not back within 2 minutes")
        if act is Act.WAIT or await self._workers_are_behind():
            return HurryState.RUNNING
        return self._send()

    async def claim_hurried(self, streams: Sequence[LiveStream]) -> Sequence[Claim]:
        claims = []
        for stream in streams:
            picked, row = self._rows.hurried.get(stream.agent_id), self._store.find_row(stream.agent_id)
            if picked is None or row is None or picked.pushed_at or picked.generation != stream.generation:
                continue
            picked.pushed_at = self._now()
            claims.append(Claim(stream, row.application.public_key_der))
        return claims

    def stays_down(self, row: Row) -> bool:
        """Tell whether nobody would start this agent again: an existing one on Windows."""
        return not self._anchors.knows(row.id) and row.application.os.lower().startswith("windows")

    def _follow(self, before: bytes, new: bytes) -> None:
        if self._rows.target == before:
            self._rows.target = new

    def _send(self) -> HurryState:
        remaining, rows = self._remaining(), self._rows
        if not remaining:
            return self._end(HurryState.DONE, "every active agent has a leaf of it")
        candidates = [
            row
            for row in sorted(remaining, key=lambda row: row.id)
            if self._store.is_online(row) and row.id not in rows.hurried and not self.stays_down(row)
        ]
        if candidates:
            rows.hurried[candidates[0].id] = _Hurried(candidates[0].generation, self._now())
            rows.last_sent_at = self._now()
        return HurryState.RUNNING

    def _look_at_those_who_were_picked(self) -> None:
        rows, remaining = self._rows, {row.id for row in self._remaining()}
        for agent_id, each in list(rows.hurried.items()):
            row = self._store.find_row(agent_id)
            if row is None:
                del rows.hurried[agent_id]
                continue
            is_later = row.generation > each.generation
            if each.pushed_at is None and (is_later or each.picked_at < self._now() - _PICK_LASTS):
                del rows.hurried[agent_id]
                continue
            if each.back_at is None and each.pushed_at is not None and is_later and row.online:
                each.back_at = self._now()
            if each.back_at is not None and agent_id in remaining:
                del rows.hurried[agent_id]

    def _remaining(self) -> list[Row]:
        return [
            row
            for row in self._store.rows()
            if row.status is AgentStatus.ACTIVE
            and all(leaf.authority_sha256 != self._rows.target for leaf in row.leaves)
        ]

    def _missing(self) -> list[str]:
        oldest = self._now() - timedelta(milliseconds=BACK_WITHIN_MS)
        return [
            agent_id
            for agent_id, each in self._rows.hurried.items()
            if each.back_at is None
            and not each.excused
            and each.pushed_at is not None
            and each.pushed_at < oldest
            and self._store.find_row(agent_id) is not None
        ]

    async def _workers_are_behind(self) -> bool:
        stored = await self._trust.load()
        return bool(await self._trust.stragglers(stored.version))

    async def _active(self) -> bytes:
        keys = (await self._trust.load()).keys[Kind.CA]
        return next((bytes.fromhex(key.name) for key in keys if key.state is TrustState.ACTIVE), b"")

    def _end(self, state: HurryState, reason: str) -> HurryState:
        self._rows.state, self._rows.reason = state, reason
        return state

    @staticmethod
    def _ms(at: datetime) -> int:
        return int(at.timestamp() * 1000)

"""Checks in memory: the same contract suite as the real store. Nothing here awaits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ct_ops_server.fleet.check_model import (
    MAX_OUTPUT_CHARS,
    MOST_CHECKS,
    MOST_CONFIG_CHARS,
    NO_CHECKS_ID,
    Check,
    CheckFreshness,
    CheckLimitError,
    CheckOwnerMissingError,
    CheckState,
    NewCheck,
    StoredDefinition,
    StoredResult,
)
from ct_ops_server.fleet.check_state import Known, Run, newest_state
from ct_ops_server.fleet.items import CheckResult, Owned
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_store import MemoryStore

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class _Row:
    new: NewCheck
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str
    enabled: bool = True
    known: Known | None = None
    results: dict[int, StoredResult] = field(default_factory=dict)


class MemoryChecks:
    """Checks of the agents of a store in memory."""

    def __init__(self, agents: MemoryStore) -> None:
        self._agents = agents
        self._all: dict[str, _Row] = {}
        self._removed: dict[str, str] = {}
        self._changes: dict[str, int] = {}
        self._number = 0

    async def add_check(self, new: NewCheck, *, actor: str) -> Check:
        status = await self._agents.agent_status(new.agent_id)
        if status is None or status is AgentStatus.REVOKED:
            raise CheckOwnerMissingError
        others = [row.new.config for row in self._rows() if row.new.agent_id == new.agent_id]
        if len(others) >= MOST_CHECKS:
            raise CheckLimitError(f"it may have {MOST_CHECKS}")
        if sum(map(len, others)) + len(new.config) > MOST_CONFIG_CHARS:
            raise CheckLimitError(f"longer than {MOST_CONFIG_CHARS} characters")
        now = self._now()
        self._all[new.id] = _Row(new, now, actor, now, actor)
        self._note(new.agent_id)
        return self._check(self._all[new.id])

    async def set_enabled(self, check_id: str, *, enabled: bool, actor: str) -> bool | None:
        row = next((row for row in self._rows() if row.new.id == check_id), None)
        if row is None:
            return None
        if row.enabled is enabled:
            return False
        row.enabled, row.changed_at, row.changed_by = enabled, self._now(), actor
        self._note(row.new.agent_id)
        return True

    async def remove_check(self, check_id: str, *, actor: str) -> bool:  # noqa: ARG002  nobody reads it yet
        row = next((row for row in self._rows() if row.new.id == check_id), None)
        if row is None:
            return False
        del self._all[check_id]
        self._removed[check_id] = row.new.agent_id
        self._note(row.new.agent_id)
        return True

    async def find_checks(self, selector: str) -> Sequence[Check]:
        if not selector:
            return []
        rows = sorted(self._rows(), key=lambda row: row.new.id)
        named = [row for row in rows if row.new.id == selector]
        begun = [row for row in rows if row.new.id.startswith(selector)]
        called = [row for row in rows if row.new.name == selector]
        return [self._check(row) for row in named or begun or called]

    async def list_checks(self, *, agent_id: str | None = None) -> Sequence[Check]:
        found = [self._check(row) for row in self._rows() if agent_id in {None, row.new.agent_id}]
        return sorted(found, key=lambda check: (check.hostname, check.name, check.id))

    async def check_results(
        self,
        *,
        check_id: str | None = None,
        agent_id: str | None = None,
        newer_than: timedelta | None = None,
        limit: int,
    ) -> Sequence[StoredResult]:
        oldest = _EPOCH if newer_than is None else self._now() - newer_than
        found = [
            result
            for row in self._rows()
            if check_id in {None, row.new.id} and agent_id in {None, row.new.agent_id}
            for result in row.results.values()
            if result.ran_at > oldest
        ]
        return sorted(found, key=lambda result: (-result.ran_at.timestamp(), result.check_id))[:limit]

    async def prune_results(self, *, keep: int) -> int:
        gone = 0
        for row in self._rows():
            if len(row.results) > keep + keep // 10:
                newest = sorted(row.results, reverse=True)[:keep]
                gone += len(row.results) - keep
                row.results = {ran_at: row.results[ran_at] for ran_at in newest}
        return gone

    async def last_change(self) -> int:
        return self._number

    async def agents_changed_after(self, number: int) -> Sequence[str]:
        changed = sorted((at, agent_id) for agent_id, at in self._changes.items() if at > number)
        return [agent_id for _, agent_id in changed if self._hostname(agent_id) is not None]

    async def definitions(self, agent_ids: Sequence[str]) -> Mapping[str, Sequence[StoredDefinition]]:
        rows = sorted(self._rows(), key=lambda row: row.new.id)
        return {
            agent_id: [
                StoredDefinition(each.id, each.type, each.config, each.interval, each.timeout)
                for each in (row.new for row in rows if row.enabled and row.new.agent_id == agent_id)
            ]
            for agent_id in agent_ids
            if agent_id in self._changes
        }

    async def freshness(self, *, agent_id: str | None = None) -> Sequence[CheckFreshness]:
        return [
            CheckFreshness(
                agent_id=row.new.agent_id,
                check_id=row.new.id,
                name=row.new.name,
                interval=row.new.interval,
                defined_at=row.changed_at,
                ran_at=None if row.known is None else _moment(row.known.newest.ran_at_ms),
                acknowledged_at=None if row.known is None else _moment(row.known.newest.arrived_ms),
            )
            for row in sorted(self._rows(), key=lambda row: row.new.id)
            if row.enabled and agent_id in {None, row.new.agent_id}
        ]

    async def deliver(self, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store results as the item writer does."""
        outcomes = dict[int, str | None]()
        for place in sorted(
            range(len(owned)), key=lambda place: _ran_at(owned[place])
        ):  # keeps the first of two
            outcomes[place] = self._store(owned[place])
        return [outcomes[place] for place in range(len(owned))]

    def _store(self, each: Owned) -> str | None:
        result = each.item
        assert isinstance(result, CheckResult)
        if result.check_id == NO_CHECKS_ID:
            return None
        row = next((row for row in self._rows() if row.new.id == result.check_id), None)
        if row is None:
            return "removed_check" if result.check_id in self._removed else "unknown_check"
        if row.new.agent_id != each.agent_id:
            return "not_yours"
        now_ms = (self._now() - _EPOCH) // _MILLISECOND
        if result.ran_at_ms <= 0:
            return "malformed"
        if result.ran_at_ms > now_ms + timedelta(days=1) // _MILLISECOND:
            return "from_the_future"
        if result.ran_at_ms not in row.results:
            row.results[result.ran_at_ms] = self._stored(row, result)
            row.known = newest_state(row.known, [Run(result.status, result.ran_at_ms, now_ms)])
        return None

    def _stored(self, row: _Row, result: CheckResult) -> StoredResult:
        return StoredResult(
            agent_id=row.new.agent_id,
            check_id=row.new.id,
            name=row.new.name,
            status=result.status,
            output=result.output[:MAX_OUTPUT_CHARS],
            duration=min(max(result.duration_ms, 0), 2**31 - 1) * _MILLISECOND,
            ran_at=_moment(result.ran_at_ms),
            received_at=self._now(),
        )

    def _check(self, row: _Row) -> Check:
        hostname = self._hostname(row.new.agent_id)
        assert hostname is not None
        return Check(
            id=row.new.id,
            agent_id=row.new.agent_id,
            hostname=hostname,
            name=row.new.name,
            type=row.new.type,
            config=row.new.config,
            interval=row.new.interval,
            timeout=row.new.timeout,
            enabled=row.enabled,
            created_at=row.created_at,
            created_by=row.created_by,
            changed_at=row.changed_at,
            changed_by=row.changed_by,
            state=_state(row.known),
        )

    def _rows(self) -> list[_Row]:
        """Return the checks of agents that there are: those of a deleted one go with it."""
        return [row for row in self._all.values() if self._hostname(row.new.agent_id) is not None]

    def _hostname(self, agent_id: str) -> str | None:
        row = self._agents._rows.get(agent_id)
        return None if row is None else row.application.hostname

    def _note(self, agent_id: str) -> None:
        self._number += 1
        self._changes[agent_id] = self._number

    def _now(self) -> datetime:
        """Return the store's moment, as a database counts it: in milliseconds."""
        now = self._agents._now()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _ran_at(each: Owned) -> int:
    assert isinstance(each.item, CheckResult)
    return each.item.ran_at_ms


def _state(known: Known | None) -> CheckState | None:
    if known is None:
        return None
    newest = known.newest
    times = (_moment(ms) for ms in (known.since_ms, newest.ran_at_ms, newest.arrived_ms))
    return CheckState(newest.status, *times)


def _moment(ms: int) -> datetime:
    return _EPOCH + ms * _MILLISECOND

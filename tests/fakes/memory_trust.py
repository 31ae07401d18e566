"""Whom an installation trusts, in memory: the same contract suite as the real rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ct_ops_server.audit.decisions import Decision
from ct_ops_server.authority.life_cycle import Holders, Kind, Straggler, TrustState
from ct_ops_server.authority.ports import (
    Change,
    Heard,
    NewKey,
    Share,
    StoredKey,
    StoredTrust,
    TrustChangedError,
)
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_store import MemoryStore


@dataclass
class TrustRows:
    """What a backup of this store would hold."""

    version: int = 0
    keys: dict[Kind, dict[str, StoredKey]] = field(default_factory=lambda: {kind: {} for kind in Kind})


class MemoryTrust:
    """``authority.ports.TrustStore`` in dictionaries, beside the store that knows agents and leases."""

    def __init__(
        self,
        store: MemoryStore,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        note: Callable[[Sequence[Decision]], None] = lambda _decisions: None,
    ) -> None:
        self._store = store
        self._now = now
        self._note = note
        self._rows = TrustRows()
        self.renewed: list[Callable[[bytes, bytes], None]] = []
        """Told which agent CA has another certificate now, and its new name: for the other fakes."""
        self._reported: dict[str, tuple[str, int]] = {}

    def snapshot(self) -> TrustRows:
        """Return a backup."""
        return copy.deepcopy(self._rows)

    def restore(self, backup: TrustRows) -> None:
        """Go back to a backup."""
        self._rows = copy.deepcopy(backup)

    async def heard(self, worker_id: str) -> Heard:
        if not self._store.has_lease(worker_id):
            return Heard(self._rows.version, None)
        return Heard(self._rows.version, self._reported.get(worker_id, ("", -1))[1])

    async def load(self) -> StoredTrust:
        return StoredTrust(self._rows.version, {kind: list(self._rows.keys[kind].values()) for kind in Kind})

    async def change(self, change: Change) -> int:
        if change.expected_version not in {None, self._rows.version}:
            raise TrustChangedError("another step was taken meanwhile: look at `ca status` again")
        if change.only_without_workers and self._store.living_workers():
            raise TrustChangedError("a server is running on this database")
        self._rows.version += 1
        keys = self._rows.keys[change.kind]
        for name, state in change.states.items():
            if name in keys:
                sealed = None if state is TrustState.RETIRED else keys[name].sealed_key
                keys[name] = replace(keys[name], state=state, since=self._now(), sealed_key=sealed)
        if change.new is not None and change.new.name not in keys:
            keys[change.new.name] = self._new(change.new)
        for name, pem in change.public_pems.items():
            keys[name] = replace(keys[name], public_pem=pem)
        if change.instead_of is not None and change.new is not None:
            before, new = bytes.fromhex(change.instead_of), bytes.fromhex(change.new.name)
            self._store.count_leaves_as(before, new)
            for listener in self.renewed:
                listener(before, new)
        for name, sealed_key in change.sealed_keys.items():
            keys[name] = replace(keys[name], sealed_key=sealed_key)
        self._note(change.decisions)
        return self._rows.version

    async def report(self, worker_id: str, node: str, version: int) -> None:
        if self._store.has_lease(worker_id):
            self._reported[worker_id] = (node, version)

    async def stragglers(self, version: int) -> Sequence[Straggler]:
        known = {
            worker_id: self._reported.get(worker_id, ("", 0)) for worker_id in self._store.living_workers()
        }
        return [Straggler(each, node) for each, (node, theirs) in sorted(known.items()) if theirs < version]

    async def shares(self, now: datetime) -> Sequence[Share]:
        latest = self._latest()
        names = sorted({name for _, _, name, _ in latest})
        return [
            Share(
                name,
                sum(theirs == name for _, _, theirs, _ in latest),
                sum(theirs == name and end > now for _, _, theirs, end in latest),
            )
            for name in names
        ]

    async def holders(self, name: str, now: datetime, *, first: int) -> Holders:
        found = sorted(
            (not online, hostname)
            for online, hostname, theirs, end in self._latest()
            if theirs == name and end > now
        )
        return Holders(len(found), tuple(hostname for _, hostname in found[:first]))

    def _new(self, new: NewKey) -> StoredKey:
        return StoredKey(new.name, new.public_pem, new.state, self._now())

    def _latest(self) -> list[tuple[bool, str, str, datetime]]:
        """Return of each active agent that has a leaf: online, hostname, its authority and its end."""
        return [
            (agent.online, agent.hostname, leaf.authority_sha256.hex(), leaf.not_after)
            for agent, leaf in self._store.latest_leaves()
            if agent.status is AgentStatus.ACTIVE
        ]

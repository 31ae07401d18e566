"""What is asked of whoever keeps the chain, as a protocol: ``store.audit_reading`` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ct_ops_server.audit.entries import Entry, Link


@dataclass(frozen=True, slots=True)
class Reach:
    """From where to where the chain is there."""

    anchor: Link
    """The oldest entry that is there follows this."""
    head: Link


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for; None: all."""

    agent: str | None = None
    """The beginning of an id."""
    token: str | None = None
    """Likewise."""
    action: str | None = None
    """An action, or the part before its dot."""
    actor: str | None = None
    since_ms: int | None = None


class AuditStore(Protocol):
    """The chain. Every method may raise the errors of ``fleet.ports``."""

    async def reach(self) -> Reach:
        """Return from where to where the chain is there."""

    async def entries_after(self, seq: int, *, limit: int) -> Sequence[Entry]:
        """Return the entries behind ``seq``, oldest first: none can appear later between two of them."""

    async def link_at(self, seq: int) -> Link | None:
        """Return the hash of one entry; None when it is not there."""

    async def list_entries(self, wanted: Wanted, *, limit: int) -> Sequence[Entry]:
        """Return the latest entries that are wanted, newest first."""

    async def span(self, *, since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
        """Return the first and last number of what was recorded in this time; the first is larger when nothing was."""

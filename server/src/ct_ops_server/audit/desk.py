"""Where operators read the chain and take it away, a page at a time.

An export has the lines of the files: an anchor, the entries, and at its end a head that is signed for it, so that it
can be verified anywhere with the public key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.heads import Head, sign_head
from ct_ops_server.audit.lines import Anchor, Record, line_of
from ct_ops_server.audit.ports import AuditStore, Wanted
from ct_ops_server.audit.writing import Signer

PAGE = 1_000
NOTED = frozenset(
    {Action.RELEASE_PUT, Action.RELEASE_REMOVED, Action.RELEASE_KEY_MADE, Action.DATABASE_BACKED_UP}
)
"""What commands do to files by themselves, and only tell."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of an export."""

    lines: bytes
    last: int | None
    """The entry that it ends with; None: this is the end of the export."""


class AuditDesk:
    """The desk."""

    def __init__(
        self,
        store: AuditStore,
        record: Callable[[Decision], Awaitable[None]],
        signer: Signer,
        *,
        public_pem: bytes,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._record = record
        self._signer = signer
        self._now_ms = now_ms
        self.public_pem = public_pem
        """Verifies what is exported."""

    async def list(self, wanted: Wanted, *, limit: int) -> Sequence[Entry]:
        """Return the latest entries that are wanted, newest first."""
        return await self._store.list_entries(wanted, limit=limit)

    async def record(self, decision: Decision) -> None:
        """Record what was done."""
        await self._record(decision)

    async def export(self, *, after: int | None, since_ms: int | None, until_ms: int | None) -> Page:
        """Return a page of an export: the first, or the one behind entry ``after``."""
        reach = await self._store.reach()
        first, last = await self._store.span(since_ms=since_ms, until_ms=until_ms)
        behind = first - 1 if after is None else after
        entries = await self._store.entries_after(behind, limit=min(PAGE, max(0, last - behind)))
        records: list[Record] = []
        if after is None:
            anchor = await self._store.link_at(behind) or reach.anchor
            records.append(Anchor(anchor, self._now_ms(), self._signer.installation))
        records += entries
        ends = entries[-1].seq if entries else behind
        if ends < last and entries:
            return Page(b"".join(map(line_of, records)), ends)
        reached = entries[-1].link if entries else await self._store.link_at(behind) or reach.anchor
        records.append(sign_head(self._head(reached), self._signer.sign))
        return Page(b"".join(map(line_of, records)), None)

    def _head(self, link: Link) -> Head:
        return Head(link, self._now_ms(), self._signer.installation, self._signer.key)

"""Announces the key that signs heads, once: whoever has the chain knows by whom it is signed (``audit.keys``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.heads import key_name
from ct_ops_server.audit.keys import announced, announcement
from ct_ops_server.audit.ports import AuditStore, Wanted

_MOST = 10_000


class KeyAnnouncer:
    """Whoever begins to write the files of a directory calls it, with the directory's lock held."""

    def __init__(
        self,
        source: AuditStore,
        record: Callable[[Decision], Awaitable[None]],
        key: Ed25519PublicKey,
        *,
        before: str = "",
    ) -> None:
        """Prepare it; ``before`` names the key that the directory had before, when it had one."""
        self._source = source
        self._record = record
        self._key = key
        self._before = before

    async def __call__(self) -> None:
        """Announce the key, unless the chain has it.

        Raises:
            StoreError: the store did not answer.
        """
        telling = [
            entry
            for action in (Action.AUDIT_KEY_USED, Action.DATABASE_RESTORED)
            for entry in await self._source.list_entries(Wanted(action=action.value), limit=_MOST)
        ]
        if key_name(self._key) not in announced(telling):
            await self._record(announcement(self._key, before=self._before))

"""Keeps a running process up with the steps that are taken, on whichever process that was.

Caught up with at a hint and once a second (the bus does that). A version that this process cannot act by, because a
key is sealed with another secret, is said once and changes nothing; it is not reported either, and no further
step is taken before every worker has reported (``life_cycle``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.ports import TrustStore
from ct_ops_server.authority.trust import LiveTrust, Trust

CATCH_UP_EVERY = timedelta(seconds=1)

_log = logging.getLogger("ct_ops_server.authority")


class TrustWatch:
    """This process's part in every rotation."""

    def __init__(
        self,
        live: LiveTrust,
        store: TrustStore,
        *,
        read: Callable[[], Awaitable[Trust]],
        worker_id: str,
        node: str,
    ) -> None:
        """Prepare.

        Args:
            live: what is in effect here.
            store: who knows the latest version, and is told of ours.
            read: returns the latest version as something to act by.
            worker_id: whose lease this process has.
            node: what people call this host.
        """
        self._live = live
        self._store = store
        self._read = read
        self._worker_id = worker_id
        self._node = node
        self._given_up: int | None = None

    async def catch_up(self) -> None:
        """Take up a later version, and report it.

        Raises:
            StoreError: the store did not answer; what was not done is done the next time.
        """
        heard = await self._store.heard(self._worker_id)
        if heard.latest not in {self._live.current.version, self._given_up}:
            await self._take_up(heard.latest)
        version = self._live.current.version
        if heard.reported is not None and heard.reported != version:
            await self._store.report(self._worker_id, self._node, version)

    async def _take_up(self, latest: int) -> None:
        try:
            trust = await self._read()
            self._live.take_up(trust)
        except (AuthorityError, OSError) as error:
            _log.error(
                "this server cannot follow the latest step of the authority, and goes on as before: %s", error
            )
            self._given_up = latest
            return
        _log.info(
            "agent CA %s signs leaves, key %s signs agent tokens (version %d)",
            trust.authority.sha256.hex()[:16],
            trust.kid[:16],
            trust.version,
        )

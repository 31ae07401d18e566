"""Keeps a running process up with the steps that are taken, on whichever process that was.

Caught up with at a hint and once a second (the bus does that). A version that this process cannot act by, because a
key is sealed with another secret or a file cannot be read, is said once and changes nothing; it is tried again twice a
minute, since some of that passes. It is not reported, and no further step is taken before every worker has reported
(``life_cycle``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.ports import TrustStore
from ct_ops_server.authority.trust import LiveTrust, Trust

CATCH_UP_EVERY = timedelta(seconds=1)
_TRY_AGAIN_AFTER_S = 30.0

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
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            live: what is in effect here.
            store: who knows the latest version, and is told of ours.
            read: returns the latest version as something to act by.
            worker_id: whose lease this process has.
            node: what people call this host.
            monotonic_s: a clock that never goes back.
        """
        self._live = live
        self._store = store
        self._read = read
        self._worker_id = worker_id
        self._node = node
        self._monotonic_s = monotonic_s
        self._failed: int | None = None
        self._try_again_s = 0.0

    async def catch_up(self) -> None:
        """Take up a later version, and report it.

        Raises:
            StoreError: the store did not answer; what was not done is done the next time.
        """
        heard = await self._store.heard(self._worker_id)
        if heard.latest != self._live.current.version and not self._has_to_wait(heard.latest):
            await self._take_up(heard.latest)
        version = self._live.current.version
        if heard.reported is not None and heard.reported != version:
            await self._store.report(self._worker_id, self._node, version)

    def _has_to_wait(self, latest: int) -> bool:
        return latest == self._failed and self._monotonic_s() < self._try_again_s

    async def _take_up(self, latest: int) -> None:
        try:
            trust = await self._read()
            self._live.take_up(trust)
        except (AuthorityError, OSError) as error:
            if latest != self._failed:
                _log.error(
                    "this server cannot follow the latest step of the authority, and goes on as before: %s",
                    error,
                )
            self._failed, self._try_again_s = latest, self._monotonic_s() + _TRY_AGAIN_AFTER_S
            return
        _log.info(
            "agent CA %s signs leaves, key %s signs agent tokens (version %d)",
            trust.authority.sha256.hex()[:16],
            trust.kid[:16],
            trust.version,
        )

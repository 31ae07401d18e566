"""Housekeeping: rolls up, removes and forgets for as long as it runs, in one process of a database at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.store.audit_pruning import AuditPruning
from ct_ops_server.store.forgetting import Forgetting
from ct_ops_server.store.retention import Retention
from ct_ops_server.store.rolling import Rolling
from ct_ops_server.store.upkeep import Upkeep, UpkeepElsewhereError

_ROUND_EVERY_S = 30.0
_PASS_EVERY_S = 600.0

_log = logging.getLogger("ct_ops_server.housekeeping")


class Housekeeping:
    """Does it now and then."""

    def __init__(
        self,
        upkeep: Upkeep,
        rolling: Rolling,
        retention: Retention,
        forgetting: Forgetting,
        audit: AuditPruning,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upkeep = upkeep
        self._rolling = rolling
        self._retention = retention
        self._forgetting = forgetting
        self._audit = audit
        self._clock = clock
        self._next_pass = clock()

    async def run(self) -> None:
        """Go on until cancelled. An outage of the database ends a round, not this."""
        while True:
            try:
                await self.make_round()
            except UpkeepElsewhereError:
                pass
            except StoreError as error:
                _log.warning("samples are neither rolled up nor removed now: %s", error)
            await asyncio.sleep(_ROUND_EVERY_S)

    async def make_round(self) -> None:
        """Roll up what is due; when it is time, remove first what is past keeping.

        Raises:
            UpkeepElsewhereError: another process does.
            StoreError: the store did not answer; what was not done is done in the next round.
        """
        async with self._upkeep.alone():
            if self._clock() >= self._next_pass:
                await self._retention.make_pass()
                await self._forgetting.make_pass()
                await self._audit.make_pass()
                self._next_pass = self._clock() + _PASS_EVERY_S
            await self._rolling.make_round()

"""Rolls samples up: whatever is due, step by step, with rests. Inside of ``Upkeep.alone``.

An hour is due when it is over and a little time has passed in which its last samples, or those of an outage, could
come together: rolling it up once is cheaper than often. Readers do not wait for it (``store.sample_reading``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from ct_ops_server.fleet.ports import WriteRefusedError
from ct_ops_server.fleet.resolutions import MINUTE_MS
from ct_ops_server.store.rollups import add_late, find_due, find_lag_ms, give_up, roll_up
from ct_ops_server.store.rollups_due import Due
from ct_ops_server.store.upkeep import StepSize, Upkeep

PATIENCE_MS = 5 * MINUTE_MS

_LISTED = 500
_LATE_AT_ONCE = 2_000

_log = logging.getLogger("ct_ops_server.rollup")


class Rolling:
    """Rolls up what is due."""

    def __init__(
        self,
        upkeep: Upkeep,
        *,
        patience_ms: int = PATIENCE_MS,
        step: StepSize | None = None,
        most_late: int = _LATE_AT_ONCE,
        stepped: Callable[[float], None] = lambda _seconds: None,
        lagging: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """Prepare it.

        Args:
            upkeep: where it writes.
            patience_ms: how long an hour is left alone after it was over, or after late samples came.
            step: how many series one step takes on.
            most_late: how many late samples one step takes on.
            stepped: told how long each step took.
            lagging: told how long what has been ready longest has been ready, in seconds.
        """
        self._upkeep = upkeep
        self._patience_ms = patience_ms
        self._size = step or StepSize(100, least=10, most=1_000)
        self._most_late = most_late
        self._stepped = stepped
        self._lagging = lagging

    async def make_round(self, *, before_ms: int | None = None) -> None:
        """Roll up what is ready now; ``before_ms``: everything before then, ready or not.

        Raises:
            StoreError: the store did not answer, or something was in the way.
        """
        find = partial(find_due, patience_ms=self._patience_ms, before_ms=before_ms, limit=_LISTED)
        while found := await self._upkeep.run(find):
            await self._tell_lag()
            for due in found:
                await self._roll_up_or_give_up(due)
            if len(found) < _LISTED:
                break
        await self._tell_lag()
        await self._add_late()

    async def _tell_lag(self) -> None:
        lag_ms = await self._upkeep.run(partial(find_lag_ms, patience_ms=self._patience_ms))
        # Whoever has more hosts than the usual rests leave time for must not fall behind for ever.
        self._upkeep.hurry(lag_ms / 1_000)
        self._lagging(lag_ms / 1_000)

    async def _roll_up_or_give_up(self, due: Due) -> None:
        """One host's samples must not end everybody's roll-up (rule 15)."""
        try:
            await self._roll_up(due)
        except WriteRefusedError as error:
            _log.error("an hour of agent %s cannot be rolled up: %s; please report it", due[0], error)
            await self._upkeep.run(partial(give_up, due=due))

    async def _roll_up(self, due: Due) -> None:
        is_done = False
        while not is_done:
            step, took = await self._upkeep.step(partial(roll_up, due=due, most_series=self._size.now))
            self._stepped(took)
            # One that was short because its host has few series says nothing of larger ones.
            if step.series == self._size.now or took > self._size.aim_s:
                self._size.took(took)
            is_done = step.is_done

    async def _add_late(self) -> None:
        added = 1
        while added:
            added, took = await self._upkeep.step(partial(add_late, most_samples=self._most_late))
            self._stepped(took)

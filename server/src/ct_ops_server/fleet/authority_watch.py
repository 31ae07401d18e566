"""Looks now and then how long the agent CA lasts and how far a rotation is: for metrics, and to warn in time.

A leaf never outlives its CA, and a rotation takes a hundred days without force. So the end of the one that signs is
said 180, 90 and 30 days before, once by each process: nobody is to find out on the day.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from ct_ops_server.authority.life_cycle import TrustState
from ct_ops_server.authority.rotation import AuthorityView, Overview
from ct_ops_server.fleet.following import alarm_due
from ct_ops_server.fleet.ports import StoreError

_LOOK_EVERY_S = 300.0
_log = logging.getLogger("ct_ops_server.authority")


class AuthorityWatch:
    """Looks, for as long as it runs."""

    def __init__(
        self,
        overview: Callable[[], Awaitable[Overview]],
        *,
        observe: Callable[[Overview, datetime], None],
        now: Callable[[], datetime],
        every_s: float = _LOOK_EVERY_S,
    ) -> None:
        """Prepare.

        Args:
            overview: returns what there is.
            observe: told of it, with the moment.
            now: what time it is.
            every_s: how often, in seconds.
        """
        self._overview = overview
        self._observe = observe
        self._now = now
        self._every_s = every_s
        self._warned: dict[str, int] = {}

    async def run(self) -> None:
        """Look, rest, look again. During an outage of the database the latest figures stay."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                _log.debug("nobody knows how far a rotation is: %s", error)
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """Look once, and warn when a threshold is crossed. Raises ``StoreError``."""
        overview, now = await self._overview(), self._now()
        self._observe(overview, now)
        for view in overview.authorities:
            if view.state is TrustState.ACTIVE:
                self._warn(view, now)

    def _warn(self, view: AuthorityView, now: datetime) -> None:
        due = alarm_due(view.not_after, now=now, warned_days=self._warned.get(view.name))
        if due is None:
            return
        self._warned[view.name] = due
        _log.error(
            "the agent CA %s ends in %d days, and with it every agent's certificate: `ct-ops-server ca rotate` now, "
            "so that agents renew in time",
            view.name[:16],
            (view.not_after - now).days,
        )

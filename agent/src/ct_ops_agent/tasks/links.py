"""The link of the moment, for work that has to wait for one."""

from __future__ import annotations

import asyncio

from ct_ops_agent.work import Link


class LinkWatch:
    """Knows whether there is a stream, and waits for one."""

    def __init__(self) -> None:
        self._link: Link | None = None
        self._is_there = asyncio.Event()

    def set(self, link: Link | None) -> None:
        """Say what it is now; ``None``: there is none."""
        self._link = link
        if link is None:
            self._is_there.clear()
        else:
            self._is_there.set()

    async def get(self) -> Link:
        """Return it, when there is one."""
        while self._link is None:
            await self._is_there.wait()
        return self._link

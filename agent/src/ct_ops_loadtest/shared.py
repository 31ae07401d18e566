"""Connections that several agents share (``--conn-fanout``).

A group's connection presents the leaf of whoever dials first. A server that takes an agent's identity from the leaf refuses
the others, and is right: so each agent has a connection of its own unless somebody asks for less.
"""

from __future__ import annotations

import asyncio

from ct_ops_loadtest.connection import Connection
from ct_ops_loadtest.virtual_agent import VirtualAgent


class SharedConnections:
    """The connections of one process, by group."""

    def __init__(self, fanout: int) -> None:
        self._fanout = fanout
        self._open: dict[int, Connection] = {}
        self._turns: dict[int, asyncio.Lock] = {}

    async def connection(self, number: int, agent: VirtualAgent, *, bytes_per_s: float) -> Connection:
        """Return the connection for an agent, new when there is none.

        Raises:
            RpcError: it cannot be made.
        """
        if self._fanout == 1:
            return await agent.dial(bytes_per_s=bytes_per_s)
        group = number // self._fanout
        async with self._turns.setdefault(group, asyncio.Lock()):
            found = self._open.get(group)
            if found is None or found.lost_by or found.http2.going_away:
                found = self._open[group] = await agent.dial(bytes_per_s=bytes_per_s)
            return found

"""Records what is no part of another transaction: what a command did to files, and only tells."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.decisions import Decision
from ct_ops_server.store.audit import append
from ct_ops_server.store.writer import GroupWriter


class Recorder:
    """Appends decisions, each in a command of its own."""

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer

    async def record(self, decision: Decision) -> None:
        """Append it; it is durable when this returns.

        Raises:
            StoreError: it was not recorded.
        """

        async def command(connection: AsyncConnection) -> None:
            await append(connection, [decision])

        await self._writer.run(command)

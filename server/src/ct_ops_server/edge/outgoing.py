"""The outgoing side of a heartbeat stream: replies and pushed frames, one write at a time.

A stream of gRPC takes one write at a time. A peer that reads nothing makes a write wait for ever: its
connection is cut after a while, for only that can end an RPC whose status would wait behind the write.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.edge.callers import Caller
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.patience import Patience

if TYPE_CHECKING:
    from ct_ops_server.edge.rpc import Context

_log = logging.getLogger("ct_ops_server.agent_service")


class Outgoing:
    """Writes to one stream, for as long as its block lasts."""

    def __init__(self, context: Context, caller: Caller, limits: Limits) -> None:
        self._context = context
        self.caller = caller
        self._limits = limits
        self._one_at_a_time = asyncio.Lock()
        self._patience = Patience()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing more is written."""
        self._patience.__exit__(kind, error, trace)

    async def reply(self, message: wire.HeartbeatResponse) -> None:
        """Write a reply; returns when the transport has taken it."""
        await self._write(message)

    async def push(self, message: wire.HeartbeatResponse) -> None:
        """Write a frame that nobody asked for. A stream that has ended is its reader's business."""
        try:
            await self._write(message)
        except grpc.aio.BaseError as error:
            _log.debug("nothing can be pushed to agent %s any more: %s", self.caller.agent_id, error)

    async def _write(self, message: wire.HeartbeatResponse) -> None:
        async with self._one_at_a_time:
            try:
                await self._patience.wait(
                    self._context.write(message.SerializeToString()), self._limits.stalled_s
                )
            except TimeoutError:
                self.caller.end("stalled", grace_s=self._limits.end_grace_s)
                await asyncio.sleep(0)  # the RPC's own task is cancelled here; a push just ends

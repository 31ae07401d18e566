"""The upload of a software scan: a call of its own, with the agent token as its metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import grpc

from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.transport.convert_work import to_inventory_chunk
from ct_ops_agent.work import InventoryChunk
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

UPLOAD_DEADLINE_S = 300.0


async def upload(
    channel: grpc.aio.Channel, method: str, identity: Identity, chunks: Iterable[InventoryChunk]
) -> int | None:
    """Send every chunk; return how many packages were stored, ``None`` for an answer that is none.

    Raises:
        grpc.aio.AioRpcError: it was not stored.
        UnreachableError: the connection was closed meanwhile, on this side.
    """
    call = channel.stream_unary(
        method,
        request_serializer=pb.SoftwareInventoryChunk.SerializeToString,
        response_deserializer=pb.SoftwareInventoryAck.FromString,
    )(
        timeout=UPLOAD_DEADLINE_S,
        metadata=(("authorization", f"Bearer {identity.agent_token.reveal()}"),),
    )
    try:
        # Whoever refuses it in the middle says why in the answer, not to the writer.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for chunk in chunks:
                await call.write(to_inventory_chunk(chunk, identity.agent_id))
            await call.done_writing()
        ack: pb.SoftwareInventoryAck | None = await call
    except asyncio.CancelledError as error:
        call.cancel()
        if _is_being_cancelled():
            raise
        # A channel that is closed cancels its calls, and grpc.aio tells who waits for one as if *he* was meant.
        raise UnreachableError("the connection was closed during the upload") from error
    except BaseException:
        call.cancel()  # half a scan is none: the server must not wait for the rest
        raise
    return None if ack is None else ack.received


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

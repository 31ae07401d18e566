"""The outgoing side of a stream: one write at a time, and an end for those who read nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.leaf_identity import Anonymous, AnonymousReason
from ct_ops_server.edge.callers import Caller
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.outgoing import Outgoing

if TYPE_CHECKING:
    from ct_ops_server.edge.rpc import Context

FRAME = wire.HeartbeatResponse(ok=True)


class Far:
    """The far end of a stream, as gRPC's context shows it."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.reads.set()
        self.writing = 0
        self.got = 0
        self.has_ended = False

    async def write(self, _message: bytes) -> None:
        if self.has_ended:
            raise grpc.aio.UsageError("RPC already finished.")
        self.writing += 1
        assert 1 == self.writing, "two writes at the same time"
        try:
            await self.reads.wait()
            await asyncio.sleep(0)
            self.got += 1
        finally:
            self.writing -= 1


@pytest.fixture
def far() -> Far:
    return Far()


@pytest.fixture
def caller() -> Caller:
    return Caller(Anonymous(AnonymousReason.NO_LEAF), "192.0.2.7")


def outgoing(far: Far, caller: Caller, stalled_s: float = 5.0) -> Outgoing:
    return Outgoing(cast("Context", far), caller, Limits(stalled_s=stalled_s))


async def test_replies_and_pushes_take_turns(far: Far, caller: Caller) -> None:
    """A stream of gRPC allows no second write while one is under way."""
    side = outgoing(far, caller)
    await asyncio.gather(*(side.reply(FRAME) if n % 2 else side.push(FRAME) for n in range(20)))

    assert 20 == far.got


async def test_a_peer_that_reads_nothing_loses_its_connection(far: Far, caller: Caller) -> None:
    """The stream hears why, and its sockets are cut: nothing else ends a write that waits."""
    cut = asyncio.Event()
    caller.on_abort(cut.set)
    far.reads.clear()

    async def rpc() -> None:
        with caller.rpc():
            await asyncio.Event().wait()

    stream = asyncio.create_task(rpc())
    await asyncio.sleep(0)
    await outgoing(far, caller, stalled_s=0.01).push(FRAME)
    async with asyncio.timeout(30):
        await asyncio.wait({stream})
        await cut.wait()

    assert stream.cancelled()
    assert "stalled" == caller.ended


async def test_a_reply_that_stalls_ends_its_own_rpc(far: Far, caller: Caller) -> None:
    """It is the RPC's task that writes replies."""
    far.reads.clear()

    async def rpc() -> None:
        with caller.rpc():
            await outgoing(far, caller, stalled_s=0.01).reply(FRAME)
            pytest.fail("it went on")

    stream = asyncio.create_task(rpc())
    await asyncio.wait({stream})

    assert stream.cancelled()


async def test_a_push_to_a_stream_that_has_ended_is_nothing(far: Far, caller: Caller) -> None:
    """Its reader finds out; what was pushed is pushed again on the next stream."""
    far.has_ended = True
    await outgoing(far, caller).push(FRAME)

    assert caller.ended is None

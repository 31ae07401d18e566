"""Why a server ended a stream is known, whatever this side was doing at that moment."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from ct_ops_agent.control_plane import HeartbeatFrame
from ct_ops_agent.errors import AgentError, UnreachableError
from ct_ops_agent.host import HostFacts
from ct_ops_agent.transport.control_plane import GrpcHeartbeatStream
from ct_ops_agent.transport.final_status import FinalStatus
from ct_ops_agent.vitals import Vitals
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

FRAME = HeartbeatFrame(
    "agent-1", 0, "1.0", HostFacts("host", "linux", "amd64", "", ""), Vitals(1.0, 2.0, 3.0, 4, (), ())
)
MADE_UP = AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), Metadata(), "Internal error from Core")
REVOKED = AioRpcError(
    grpc.StatusCode.FAILED_PRECONDITION, Metadata(), Metadata(("ct-ops-reason", "revoked")), "no"
)


@asynccontextmanager
async def server(end: Callable[[Any], Any]) -> AsyncIterator[grpc.aio.Channel]:
    """Run a server that reads one frame of each stream and ends it; yield a channel to it."""

    async def heartbeat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            await end(context)
            return
        yield b""

    running = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(heartbeat)
    running.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("agent.v1.IngestService", {"Heartbeat": handler}),)
    )
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await running.stop(None)


async def heard_while_writing(channel: grpc.aio.Channel) -> AgentError:
    """Write without end; return what the stream ended with."""
    method = channel.stream_stream(
        "/agent.v1.IngestService/Heartbeat",
        request_serializer=pb.HeartbeatRequest.SerializeToString,
        response_deserializer=pb.HeartbeatResponse.FromString,
    )
    stream = GrpcHeartbeatStream(method(), "server:1", lambda: 0.0)
    receiving = asyncio.create_task(stream.receive())
    while not receiving.done():
        await stream.send(FRAME)
        await asyncio.sleep(0)
    error = receiving.exception()
    await stream.finish()
    assert isinstance(error, AgentError)
    return error


async def test_a_refusal_that_meets_a_frame_on_its_way_keeps_its_reason() -> None:
    """A hundred streams that are refused while their agents write: each agent knows that it is revoked."""

    async def refuse(context: Any) -> None:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no", (("ct-ops-reason", "revoked"),))

    async with server(refuse) as channel:
        heard = Counter([str(await heard_while_writing(channel)) for _ in range(100)])

    (said,) = heard
    assert "revoked" in said


async def test_an_orderly_end_that_meets_a_frame_on_its_way_is_an_orderly_end() -> None:
    """No table of refusals is asked about a status that is none."""

    async def farewell(_context: Any) -> None:
        return

    async with server(farewell) as channel:
        heard = [await heard_while_writing(channel) for _ in range(50)]

    assert {"server:1 ended the stream"} == {str(error) for error in heard}
    assert all(isinstance(error, UnreachableError) for error in heard)


class Call:
    """A call that ends as the test says, each ending overwriting the one before."""

    def __init__(self) -> None:
        self._status: AioRpcError | None = None
        self._callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def end(self, status: AioRpcError) -> None:
        self._status = status
        for callback in self._callbacks:
            callback(self)

    async def code(self) -> grpc.StatusCode:
        assert self._status is not None
        return self._status.code()

    async def details(self) -> str | None:
        assert self._status is not None
        return self._status.details()

    async def initial_metadata(self) -> Metadata:
        return Metadata()

    async def trailing_metadata(self) -> Metadata:
        assert self._status is not None
        return self._status.trailing_metadata()


def reason(error: AioRpcError) -> object:
    return (error.trailing_metadata() or {}).get("ct-ops-reason")


@pytest.mark.parametrize("endings", [[REVOKED, MADE_UP], [MADE_UP, REVOKED], [REVOKED]])
async def test_what_the_server_said_is_kept_in_whatever_order_it_came(endings: list[AioRpcError]) -> None:
    """Before the failed write, after it, and without one."""
    call = Call()
    final = FinalStatus(call)
    for ending in endings:
        call.end(ending)

    assert "revoked" == reason(await final.instead_of(endings[-1]))


async def test_a_status_that_is_still_on_its_way_is_waited_for() -> None:
    """The failed write is known first."""
    call = Call()
    final = FinalStatus(call)
    call.end(MADE_UP)
    waiting = asyncio.create_task(final.instead_of(MADE_UP))
    await asyncio.sleep(0)
    call.end(REVOKED)

    assert "revoked" == reason(await waiting)


async def test_a_status_that_never_comes_is_not_waited_for_for_ever() -> None:
    """Then the made-up one is all there is."""
    call = Call()
    final = FinalStatus(call)
    call.end(MADE_UP)

    assert MADE_UP is await final.instead_of(MADE_UP)

"""Hosts that are asked for work, made of nothing but grpcio: an existing agent, and one that counts attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import grpc

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from wire_client import HeartbeatStream, Host, Wire, next_reply

HELLO = wire.HeartbeatRequest(hello=wire.Hello(features=["attempts", "definitions"], interval_s=30))
BASH = wire.SoftwarePackage(
    name="bash", version="5.2-1", architecture="amd64", publisher="Debian", install_date_unix=1_700_000_000
)
CURL = wire.SoftwarePackage(name="curl", version="8.1-1", architecture="amd64")


class Connected:
    """A host whose stream is open and was acknowledged once."""

    def __init__(self, address: Wire, host: Host, stream: HeartbeatStream) -> None:
        self.wire = address
        self.host = host
        self.stream = stream

    async def pushed(self) -> wire.HeartbeatResponse:
        """Return the next frame of the server."""
        async with asyncio.timeout(15):
            return await next_reply(self.stream)

    async def query(self) -> wire.AgentQuery:
        """Return the next query."""
        while not (frame := await self.pushed()).pending_queries:
            pass
        return frame.pending_queries[0]

    async def task(self) -> wire.AgentTask:
        """Return the next task."""
        while not (frame := await self.pushed()).HasField("pending_task"):
            pass
        return frame.pending_task

    async def cancelled(self) -> str:
        """Return the next task that is to be stopped."""
        while not (frame := await self.pushed()).cancel_task_ids:
            pass
        return frame.cancel_task_ids[0]

    async def send(self, frame: wire.HeartbeatRequest) -> None:
        """Send a frame, with vitals, and wait for its reply."""
        frame.agent_id = self.host.agent_id
        await self.stream.write(frame)
        await self.pushed()

    async def answer(self, query: wire.AgentQuery, *ports: wire.PortInfo, error: str = "") -> None:
        """Answer a query, beside vitals."""
        result = wire.AgentQueryResult(
            query_id=query.query_id,
            query_type=query.query_type,
            status="error" if error else "ok",
            error=error,
            ports=ports,
        )
        await self.send(wire.HeartbeatRequest(query_results=[result]))

    async def say(self, task: wire.AgentTask, text: str) -> None:
        """Say something about a task."""
        progress = wire.AgentTaskProgress(task_id=task.task_id, output_chunk=text)
        await self.send(wire.HeartbeatRequest(task_progress=[progress]))

    async def end(self, task: wire.AgentTask, exit_code: int = 0, error: str = "") -> None:
        """End a task."""
        result = wire.AgentTaskResult(
            task_id=task.task_id, task_type=task.task_type, exit_code=exit_code, error=error
        )
        await self.send(wire.HeartbeatRequest(task_results=[result]))

    async def upload(self, chunks: Iterable[wire.SoftwareInventoryChunk]) -> int:
        """Upload a scan; return how many packages were stored."""
        return await upload(self.wire, self.host, chunks)


async def upload(address: Wire, host: Host, chunks: Iterable[wire.SoftwareInventoryChunk]) -> int:
    """Upload a scan as a host; return how many packages were stored."""
    metadata = (("authorization", f"Bearer {host.agent_token}"),)
    async with address.connect(host) as stub:
        ack = await stub.SubmitSoftwareInventory(iter(chunks), metadata=metadata, timeout=30)
    return int(ack.received)


def scan(
    scan_id: str, *packages: wire.SoftwarePackage, chunk_size: int = 500, attempt: int = 0
) -> Iterator[wire.SoftwareInventoryChunk]:
    """Yield a scan's chunks."""
    parts = [packages[at : at + chunk_size] for at in range(0, len(packages), chunk_size)] or [()]
    for index, part in enumerate(parts):
        yield wire.SoftwareInventoryChunk(
            scan_id=scan_id,
            source="dpkg",
            chunk_index=index,
            is_last=index == len(parts) - 1,
            packages=part,
            attempt=attempt,
        )


@asynccontextmanager
async def connected(
    address: Wire, host: Host, first: wire.HeartbeatRequest | None = None
) -> AsyncIterator[Connected]:
    """Yield a host whose stream is open."""
    async with address.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame(first))
        await next_reply(stream)
        yield Connected(address, host, stream)
        stream.cancel()


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return how a call ended."""
    assert isinstance(error, grpc.aio.AioRpcError)
    return error.code()

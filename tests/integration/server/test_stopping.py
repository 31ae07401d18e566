"""How a server stops under streams that are never silent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from real_server import real_server, settings_for, tighter
from wire_client import HeartbeatStream, Host, next_reply

HELLO = wire.HeartbeatRequest(hello=wire.Hello(features=["definitions"], interval_s=30))
FASTER = tighter(frames_per_second=1_000.0, frames_burst=1_000)


async def beat_at_every_reply(stream: HeartbeatStream, host: Host) -> None:
    """Send the next frame as soon as the one before is answered, until the stream has ended."""
    frame = wire.HeartbeatRequest(agent_id=host.agent_id, cpu_percent=1)
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while isinstance(await stream.read(), wire.HeartbeatResponse):
            await stream.write(frame)


async def test_an_agent_that_is_never_silent_does_not_keep_a_server_from_stopping(tmp_path: Path) -> None:
    """What it had under way is answered; a stop does not wait for its whole time because there is always more."""
    settings = replace(settings_for(tmp_path / "server"), drain=timedelta(minutes=10))
    async with asyncio.timeout(120):
        async with real_server(settings, FASTER) as server:
            host = await server.enrolled("busy")
            connection = server.wire.connect(host)
            stub = await connection.__aenter__()
            stream = stub.Heartbeat()
            await stream.write(host.first_frame(HELLO))
            await next_reply(stream)
            beating = asyncio.create_task(beat_at_every_reply(stream, host))
            await stream.write(host.first_frame())
        await beating
        await connection.__aexit__(None, None, None)

    assert stream.done()

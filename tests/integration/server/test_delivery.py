"""Numbered delivery over real TLS, on both databases, by a client that knows nothing of our agent."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from real_server import RealServer
from wire_client import HeartbeatStream, Host, next_reply, reason_of

OUTBOX = bytes(range(16))
HELLO = wire.HeartbeatRequest(hello=wire.Hello(features=["delivery"], interval_s=30, outbox_id=OUTBOX))


def digest_of(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:16]


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def payload_of(
    *, results: Sequence[wire.ResultItem] = (), samples: Sequence[wire.Sample] = (), gaps: int = 0
) -> bytes:
    """Return a body; ``gaps`` is how many items one gap stands for."""
    lost = [wire.Gap(type="samples", count=gaps, from_ms=now_ms(), to_ms=now_ms(), reason="space")] * bool(
        gaps
    )
    return wire.BatchBody(results=results, samples=samples, gaps=lost).SerializeToString()


@asynccontextmanager
async def connected(
    server: RealServer, host: Host, first: wire.HeartbeatRequest = HELLO
) -> AsyncIterator[tuple[HeartbeatStream, wire.HeartbeatResponse]]:
    """Yield a stream and the reply to its first frame."""
    async with server.wire.connect(host) as stub:
        stream = stub.Heartbeat()
        await stream.write(host.first_frame(first))
        yield stream, await next_reply(stream)
        stream.cancel()


async def deliver(stream: HeartbeatStream, host: Host, seq: int, payload: bytes) -> wire.BatchAck:
    """Send a batch in a frame of its own; return its acknowledgement."""
    batch = wire.Batch(outbox_id=OUTBOX, seq=seq, payload=payload)
    await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, batch=batch))
    reply = await next_reply(stream)
    assert reply.HasField("batch_ack")
    return reply.batch_ack


async def test_the_welcome_says_how_far_the_outbox_was_stored(server: RealServer) -> None:
    """Position 0 on a new server; the number and digest that were acknowledged on the next stream."""
    host = await server.enrolled("web-1")
    payload = payload_of(gaps=3)
    async with connected(server, host) as (stream, first):
        acknowledged = await deliver(stream, host, 1, payload)
    async with connected(server, host) as (_, second):
        pass

    assert "delivery" in first.welcome.features
    assert (0, b"") == (first.welcome.stored_seq, first.welcome.stored_digest)
    assert first.welcome.max_batch_bytes >= 64 * 1024
    assert (wire.BatchAck.STORED, 1, digest_of(payload)) == (
        acknowledged.verdict,
        acknowledged.seq,
        acknowledged.digest,
    )
    assert (1, digest_of(payload)) == (second.welcome.stored_seq, second.welcome.stored_digest)


async def test_a_batch_that_comes_again_is_stored_and_another_one_is_told_where_it_belongs(
    server: RealServer,
) -> None:
    """STORED for what is there, MISMATCH with the position for a hole; the stream goes on."""
    host = await server.enrolled("web-1")
    payloads = {seq: payload_of(gaps=seq) for seq in (1, 2, 9)}
    async with connected(server, host) as (stream, _):
        told = [await deliver(stream, host, seq, payloads[seq]) for seq in (1, 1, 9, 2)]

    stored, mismatch = wire.BatchAck.STORED, wire.BatchAck.MISMATCH
    assert [stored, stored, mismatch, stored] == [each.verdict for each in told]
    assert (1, digest_of(payloads[1])) == (told[2].stored_seq, told[2].stored_digest)


async def test_a_batch_is_no_heartbeat(server: RealServer) -> None:
    """A frame with a batch and no time of its own leaves the latest vitals as they are."""
    host = await server.enrolled("web-1")
    async with connected(server, host) as (stream, _):
        values = wire.HeartbeatRequest(
            agent_id=host.agent_id, cpu_percent=77.0, timestamp_unix=now_ms() // 1000
        )
        await stream.write(values)
        await next_reply(stream)
        await deliver(stream, host, 1, payload_of(gaps=1))
        shown = await server.agent(host)

    assert 77.0 == shown["vitals"]["cpu_percent"]


async def test_hostile_items_are_refused_by_index_and_the_others_are_stored(server: RealServer) -> None:
    """A NUL, 2^63, the year 1970, no number at all: refused, recorded, and blocking nothing."""
    host = await server.enrolled("web-1")
    at = now_ms()
    hostile = payload_of(
        results=[
            wire.ResultItem(),
            wire.ResultItem(task_progress=wire.AgentTaskProgress(task_id="t", offset=2**63)),
            wire.ResultItem(check_result=wire.CheckResult(check_id="a\0b", status="pass", ran_at_ms=at)),
        ],
        samples=[
            wire.Sample(series='disk.used{mount="\0"}', ts_ms=at, value=1),
            wire.Sample(series="disk.used", ts_ms=1, value=1),
            wire.Sample(series="disk.used", ts_ms=at, value=float("nan")),
        ],
        gaps=5,
    )
    async with connected(server, host) as (stream, _):
        told = await deliver(stream, host, 1, hostile)
        unreadable = await deliver(stream, host, 2, b"\xff\xff\xff")
        after = await deliver(stream, host, 3, payload_of(gaps=1))

    assert [
        (0, "unsupported"),
        (1, "malformed"),
        (2, "malformed"),
        (3, "malformed"),
        (4, "time_out_of_range"),
        (5, "malformed"),
    ] == [(each.index, each.reason) for each in told.refused]
    assert [wire.BatchAck.STORED] * 3 == [each.verdict for each in (told, unreadable, after)]
    assert [(0, "malformed")] == [(each.index, each.reason) for each in unreadable.refused]


async def test_a_revoked_agents_batch_is_refused(server: RealServer) -> None:
    """It hears that it was revoked, and nothing of it is stored."""
    host = await server.enrolled("web-1")
    async with connected(server, host) as (stream, _):
        await server.decide(host, "revoke")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await deliver(stream, host, 1, payload_of(gaps=1))

    assert "revoked" == reason_of(refusal.value)


@pytest.mark.parametrize(("outbox_id", "seq"), [(b"short", 1), (OUTBOX, 0), (OUTBOX, 2**63)], ids=str)
async def test_a_batch_without_a_number_that_can_be_ends_the_stream(
    server: RealServer, outbox_id: bytes, seq: int
) -> None:
    """Nothing can be acknowledged by a number that is none."""
    host = await server.enrolled("web-1")
    async with connected(server, host) as (stream, _):
        batch = wire.Batch(outbox_id=outbox_id, seq=seq)
        await stream.write(wire.HeartbeatRequest(agent_id=host.agent_id, batch=batch))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stream.read()

    assert "message_malformed" == reason_of(refusal.value)

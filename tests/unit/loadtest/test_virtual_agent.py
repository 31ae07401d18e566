"""One virtual agent without a network: what it would send, and how it reads the end of a stream."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import cast

import grpc
import pytest
from cryptography import x509

from ct_ops_loadtest import virtual_agent
from ct_ops_loadtest.virtual_agent import NotServedError, Target, VirtualAgent
from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from wire_client import raw_public_pem

TARGET = Target("127.0.0.1:1", b"-----BEGIN CERTIFICATE-----", "tok_" + "s" * 32)
FOREVER_S = math.inf

Call = grpc.aio.StreamStreamCall[bytes, bytes]


class Stream:
    """A stream that acknowledges frames until its replies are used up, and then ends in peace."""

    def __init__(self, replies: int, *, hangs: bool = False) -> None:
        self._replies = replies
        self._hangs = hangs
        self.frames: list[wire.HeartbeatRequest] = []

    def done(self) -> bool:
        """Whether nothing can be written any more."""
        return self._replies <= len(self.frames) and not self._hangs

    async def write(self, frame: bytes) -> None:
        """Take a frame."""
        assert not self.done(), "gRPC raises InvalidStateError here"
        self.frames.append(wire.HeartbeatRequest.FromString(frame))

    async def read(self) -> object:
        """Acknowledge the last frame."""
        if self.done():
            return grpc.aio.EOF
        if self._replies < len(self.frames):
            await asyncio.Event().wait()
        return b""


async def beat(stream: Stream, *, until_s: float, interval_s: float = 0) -> Sequence[float]:
    agent = VirtualAgent(TARGET, "load-1")
    beating = agent.beat(cast("Call", stream), until_s=until_s, interval_s=interval_s, offset_s=0)
    return [seconds async for seconds in beating]


def test_a_registration_looks_like_one_of_an_existing_agent() -> None:
    """Raw key in PEM armour, a CSR of the same key, and the secret part of the token."""
    agent = VirtualAgent(TARGET, "load-1")
    request = agent._request()

    csr = x509.load_der_x509_csr(request.csr_der)
    assert csr.is_signature_valid
    assert csr.public_key() == agent._key.public_key()
    assert raw_public_pem(agent._key) == request.public_key
    assert ("load-1", TARGET.token) == (request.agent_info.hostname, request.org_token)


def test_every_virtual_agent_has_a_key_of_its_own() -> None:
    """Otherwise a server would see one agent that registers a thousand times."""
    keys = {VirtualAgent(TARGET, "load-1")._request().public_key for _ in range(5)}

    assert 5 == len(keys)


def test_a_target_shows_neither_token_nor_certificate() -> None:
    """It ends in tracebacks of broken runs."""
    assert "Target(address='127.0.0.1:1')" == repr(TARGET)


async def test_every_acknowledged_frame_is_one_round_trip() -> None:
    """As many figures as replies, until the run's time is over."""
    stream = Stream(replies=1_000_000)
    round_trips = await beat(stream, until_s=time.monotonic() + 0.02)

    assert 0 < len(round_trips) == len(stream.frames)
    assert all(seconds >= 0 for seconds in round_trips)


async def test_nothing_is_sent_when_the_time_is_over() -> None:
    """An agent whose turn comes after the end of the run stays silent."""
    stream = Stream(replies=10)

    assert [] == await beat(stream, until_s=0)
    assert [] == stream.frames


async def test_a_stream_that_ends_is_no_quiet_success() -> None:
    """The server closed in peace in the middle of a run: that is counted."""
    stream = Stream(replies=3)

    with pytest.raises(NotServedError, match="the stream ended"):
        await beat(stream, until_s=FOREVER_S)
    assert 3 == len(stream.frames)


async def test_a_server_that_stops_answering_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline the agent counts as not served."""
    monkeypatch.setattr(virtual_agent, "_DEADLINE_S", 0.01)

    with pytest.raises(NotServedError, match=r"no acknowledgement within 0\.01 s"):
        await beat(Stream(replies=3, hangs=True), until_s=FOREVER_S)


async def test_frames_are_those_of_a_small_host() -> None:
    """Vitals, a disk and an interface: what is stored for each is what a real agent would cost."""
    stream = Stream(replies=1)
    with pytest.raises(NotServedError):
        await beat(stream, until_s=FOREVER_S)

    frame = stream.frames[0]
    assert (1, 1, "linux") == (len(frame.disks), len(frame.network_interfaces), frame.os)
    assert frame.cpu_percent > 0 < frame.memory_percent

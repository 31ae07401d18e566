from __future__ import annotations

import asyncio

from ct_ops_server.edge.relay import TlsSide, UpstreamSide


class RecordingTransport(asyncio.Transport):
    """Remembers what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.calls: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls


def connected() -> tuple[TlsSide, UpstreamSide, RecordingTransport, RecordingTransport]:
    """Return both sides before they are attached, with their transports."""
    client = TlsSide()
    upstream = UpstreamSide(client)
    outer, inner = RecordingTransport(), RecordingTransport()
    client.connection_made(outer)
    upstream.connection_made(inner)
    return client, upstream, outer, inner


async def test_what_the_upstream_says_before_it_is_attached_reaches_the_client() -> None:
    """GRPC sends its SETTINGS at once; lost, they would leave the client waiting for ever."""
    _, upstream, outer, _ = connected()
    upstream.data_received(b"SETTINGS")

    assert outer.written == b"SETTINGS"


async def test_a_client_is_not_read_before_there_is_somebody_to_read_for() -> None:
    """Paused from the handshake on, resumed by attaching."""
    client, upstream, outer, inner = connected()
    client.attach(upstream)
    client.data_received(b"hello")

    assert outer.calls == ["pause", "resume"]
    assert inner.written == b"hello"


async def test_a_side_that_cannot_send_stops_the_other_sides_reading() -> None:
    """Back-pressure goes both ways."""
    client, upstream, outer, inner = connected()
    client.attach(upstream)
    client.pause_writing()
    upstream.pause_writing()
    client.resume_writing()
    upstream.resume_writing()

    assert inner.calls == ["pause", "resume"]
    assert outer.calls[2:] == ["pause", "resume"]


async def test_a_client_that_left_during_the_dial_is_not_attached() -> None:
    """The door then cuts the upstream."""
    client, upstream, outer, _ = connected()
    outer.close()

    assert not client.attach(upstream)


async def test_the_end_of_one_side_closes_the_other_after_its_bytes() -> None:
    """A reset is passed on as an orderly close, and the door is told once."""
    client, upstream, _, inner = connected()
    ended: list[str] = []
    client.on_lost = lambda: ended.append("client")
    client.attach(upstream)
    client.connection_lost(ConnectionResetError())

    assert inner.calls == ["close"]
    assert ended == ["client"]

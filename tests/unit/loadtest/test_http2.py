"""The client's side of HTTP/2 without a network: frames in, frames out (RFC 9113)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_loadtest.h2_format import BrokenPeerError
from ct_ops_loadtest.http2 import Ending, Http2Client

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
OK_HEADERS = ((":status", "200"), ("content-type", "application/grpc"))
GOOD_END = (("grpc-status", "0"),)

Frame = tuple[int, int, int, bytes]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def message(content: bytes) -> bytes:
    return struct.pack(">BI", 0, len(content)) + content


def frames(data: bytes) -> Iterator[Frame]:
    """Take apart what the client sent."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 3])
        yield (
            data[at + 3],
            data[at + 4],
            int.from_bytes(data[at + 5 : at + 9]),
            data[at + 9 : at + 9 + length],
        )
        at += 9 + length


def decoded(block: bytes) -> set[tuple[str, str]]:
    """Return headers."""
    return {(str(name), str(value)) for name, value in hpack.Decoder().decode(block)}


@dataclass
class Peer:
    """A client with one open stream, and the server's side of it."""

    client: Http2Client = field(default_factory=lambda: Http2Client("ops.example:9443"))
    messages: list[bytes] = field(default_factory=list)
    ends: list[Ending] = field(default_factory=list)
    encoder: hpack.Encoder = field(default_factory=hpack.Encoder)

    def __post_init__(self) -> None:
        self.stream = self.open()
        self.hello = self.client.to_send()

    def open(self, *metadata: tuple[str, str]) -> int:
        return self.client.open(
            "/agent.v1.IngestService/Heartbeat", metadata, self.messages.append, self.ends.append
        )

    def headers(self, pairs: tuple[tuple[str, str], ...], flags: int = END_HEADERS, stream: int = 1) -> bytes:
        return frame(HEADERS, flags, stream, self.encoder.encode(list(pairs)))

    def says(self, *data: bytes) -> list[Frame]:
        """Let the server say something; return what the client sends then."""
        self.client.received(b"".join(data))
        return list(frames(self.client.to_send()))


def said(peer: Peer, data: bytes) -> bytes:
    """Return the bytes that the client sends then."""
    return b"".join(frame(*one) for one in peer.says(data))


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_a_connection_begins_with_preface_settings_and_a_request(peer: Peer) -> None:
    """No pushed streams, no table for headers; the request is a POST of gRPC."""
    assert peer.hello.startswith(PREFACE)
    settings, request = frames(peer.hello.removeprefix(PREFACE))

    assert (SETTINGS, 0, 0) == settings[:3]
    assert {1: 0, 2: 0} == dict(struct.iter_unpack(">HI", settings[3]))
    assert (HEADERS, END_HEADERS, 1) == request[:3]
    assert {
        (":method", "POST"), (":scheme", "https"), (":authority", "ops.example:9443"),
        (":path", "/agent.v1.IngestService/Heartbeat"), ("content-type", "application/grpc"), ("te", "trailers"),
    } == decoded(request[3])  # fmt: skip


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=2_000))
def test_metadata_of_any_length_is_written(value: str) -> None:
    """An agent token has some hundred bytes: more than fit into a prefix of seven bits."""
    peer = Peer()
    peer.open(("authorization", value))
    (request,) = frames(peer.client.to_send())

    assert ("authorization", value) in decoded(request[3])


def test_messages_are_delivered_whole_however_they_are_cut(peer: Peer) -> None:
    """Byte by byte, two in a frame, one in two frames."""
    data = b"".join(
        (
            peer.headers(OK_HEADERS),
            frame(DATA, 0, 1, message(b"one") + message(b"") + message(b"three")[:4]),
            frame(DATA, 0, 1, message(b"three")[4:]),
            peer.headers(GOOD_END, END_HEADERS | END_STREAM),
        )
    )
    for at in range(len(data)):
        peer.client.received(data[at : at + 1])

    assert [b"one", b"", b"three"] == peer.messages
    assert [Ending(0, "")] == peer.ends


def test_a_refusal_carries_status_sentence_and_metadata(peer: Peer) -> None:
    """Trailers alone, percent-encoded as gRPC does it."""
    trailers = (
        *OK_HEADERS,
        ("grpc-status", "16"),
        ("grpc-message", "no%20leaf%3a %C3%BC"),
        ("ct-ops-reason", "x"),
    )
    peer.says(peer.headers(trailers, END_HEADERS | END_STREAM))

    assert [Ending(16, "no leaf: ü", (("ct-ops-reason", "x"),))] == peer.ends


def test_pings_and_settings_are_acknowledged_and_acknowledgements_are_not(peer: Peer) -> None:
    """A server cuts off who does not answer its PING."""
    answered = peer.says(frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0))

    assert [(PING, ACK, 0, b"12345678"), (SETTINGS, ACK, 0, b"")] == answered
    assert [] == peer.says(frame(PING, ACK, 0, b"12345678"), frame(SETTINGS, ACK, 0))


def test_never_more_is_sent_than_the_server_allows(peer: Peer) -> None:
    """The rest waits for room on the stream and on the connection, and keeps its order."""
    peer.says(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 10)))
    peer.client.send(1, b"x" * 20)
    sent = [peer.client.to_send()]
    for window, more in ((0, 7), (1, 7), (1, 100)):
        sent.append(said(peer, frame(WINDOW, 0, window, struct.pack(">I", more))))

    pieces = [b"".join(payload for _, _, _, payload in frames(data)) for data in sent]
    assert [10, 0, 7, 8] == [len(piece) for piece in pieces]
    assert message(b"x" * 20) == b"".join(pieces)


def test_a_big_message_is_cut_into_frames_and_the_connections_window_is_kept(peer: Peer) -> None:
    """64 KiB are allowed before the server says more, 16 KiB in a frame."""
    peer.client.send(1, b"x" * 100_000)
    first = list(frames(peer.client.to_send()))
    more = struct.pack(">I", 1 << 20)

    assert 65_535 == sum(len(payload) for _, _, _, payload in first)
    assert max(len(payload) for _, _, _, payload in first) <= 16_384
    assert [] == peer.says(frame(WINDOW, 0, 1, more))
    rest = peer.says(frame(WINDOW, 0, 0, more))
    assert 100_005 - 65_535 == sum(len(payload) for _, _, _, payload in rest)


def test_what_was_read_is_given_back_to_stream_and_connection(peer: Peer) -> None:
    """Before the window is used up: a server would stop sending for ever."""
    piece = frame(DATA, 0, 1, b"\0" * 5 * 2_000)
    given = [one for _ in range(12) for one in peer.says(piece)]
    back = {
        stream: sum(int.from_bytes(p) for k, _, s, p in given if (k, s) == (WINDOW, stream))
        for stream in (0, 1)
    }

    assert {0, 1} == {stream for _, _, stream, _ in given}
    assert all(120_000 - 65_535 < amount <= 120_000 for amount in back.values())


def test_a_half_close_follows_what_waits(peer: Peer) -> None:
    """And nothing is sent on a stream that has ended."""
    peer.says(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 3)))
    peer.client.send(1, b"x")
    peer.client.half_close(1)
    early = list(frames(peer.client.to_send()))
    late = peer.says(frame(WINDOW, 0, 1, struct.pack(">I", 100)))

    assert [0] == [flags for _, flags, _, _ in early]
    assert END_STREAM == late[-1][1]
    peer.says(peer.headers(GOOD_END, END_HEADERS | END_STREAM))
    peer.client.send(1, b"more")
    peer.client.half_close(1)
    assert b"" == peer.client.to_send()


def test_padding_priorities_and_continued_headers_are_understood(peer: Peer) -> None:
    """Other servers use them."""
    block = peer.encoder.encode(list(OK_HEADERS))
    padded = bytes((3,)) + b"\0\0\0\0\x10" + block[:5] + b"pad"
    peer.says(frame(HEADERS, PADDED | PRIORITY, 1, padded), frame(CONTINUATION, END_HEADERS, 1, block[5:]))
    peer.says(frame(DATA, PADDED, 1, bytes((2,)) + message(b"hello") + b"..") + frame(99, 0, 1, b"unknown"))

    assert [b"hello"] == peer.messages
    assert [] == peer.ends


def test_a_reset_ends_its_stream_alone(peer: Peer) -> None:
    """With a sentence."""
    other = peer.open()
    peer.says(frame(RST, 0, 1, struct.pack(">I", 7)), frame(DATA, 0, other, message(b"still here")))

    assert ["the server reset the stream (7)"] == [end.text for end in peer.ends]
    assert [b"still here"] == peer.messages


def test_a_server_that_goes_away_ends_what_it_has_not_taken(peer: Peer) -> None:
    """Older streams go on until they end by themselves."""
    peer.open()
    peer.says(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)))

    assert ["the server is going away"] == [end.text for end in peer.ends]
    assert peer.client.going_away


def test_a_lost_connection_ends_every_stream_once(peer: Peer) -> None:
    """With what was lost."""
    peer.open()
    peer.client.lost("connection reset")
    peer.client.lost("again")

    assert ["connection reset"] * 2 == [end.text for end in peer.ends]


def test_a_cancelled_stream_is_told_and_heard_of_no_more(peer: Peer) -> None:
    """What was under way is read and dropped."""
    peer.client.cancel(1)

    assert [(RST, 0, 1, struct.pack(">I", 8))] == list(frames(peer.client.to_send()))
    peer.says(frame(DATA, 0, 1, message(b"late")))
    assert ([], []) == (peer.messages, peer.ends)


def test_an_answer_of_another_server_is_said(peer: Peer) -> None:
    """A proxy that answers 502."""
    peer.says(peer.headers(((":status", "502"),)))

    assert ["the server answered with HTTP status 502"] == [end.text for end in peer.ends]


@pytest.mark.parametrize(
    "data",
    [
        frame(DATA, 0, 1, b"\1\0\0\0\5hello"),
        frame(DATA, 0, 1, struct.pack(">BI", 0, 1 << 30)),
        frame(DATA, PADDED, 1, bytes((9,)) + b"short"),
        frame(HEADERS, 0, 1, b"") + frame(DATA, 0, 1),
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 3, b""),
        frame(CONTINUATION, END_HEADERS, 1, b""),
        frame(HEADERS, 0, 1, b"\0" * 16_000) + frame(CONTINUATION, 0, 1, b"\0" * 16_000) * 5,
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
        frame(SETTINGS, 0, 0, b"12345"),
        b"\xff\xff\xff" + bytes(6),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_peer_that_breaks_the_protocol_is_left_with_a_sentence(peer: Peer, data: bytes) -> None:
    """Never a traceback of another sort, never a wait without end."""
    with pytest.raises(BrokenPeerError, match="the server"):
        peer.client.received(data)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_what_frames_may_do(data: bytes) -> None:
    """Fuzzed: whatever comes is taken, waited for, or refused."""
    with suppress(BrokenPeerError):
        Peer().client.received(data)

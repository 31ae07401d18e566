"""What is said before TLS, without sockets."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.starttls import (
    DIALOGUES,
    MAX_LINE_BYTES,
    MAX_TOTAL_BYTES,
    NoStartTlsError,
    dialogue_for,
    speak_imap,
    speak_pop3,
    speak_smtp,
    upgrade,
)


def hold(protocol: str, said: bytes) -> bytes:
    """Hold a dialogue with a peer that says this and hangs up; return what it was told."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        speaking = threading.Thread(target=_say, args=(theirs, said))
        speaking.start()
        try:
            upgrade(ours, DIALOGUES[protocol](), Attempt(10))
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            speaking.join(10)
        theirs.settimeout(10)
        return theirs.recv(4_096)


def _say(peer: socket.socket, said: bytes) -> None:
    try:
        peer.sendall(said)
        peer.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it had enough of us


@pytest.mark.parametrize(
    ("port", "dialogue"), [(25, speak_smtp), (587, speak_smtp), (143, speak_imap), (110, speak_pop3), (443, None), (993, None)]
)  # fmt: skip
def test_what_is_spoken_goes_by_the_port(port: int, dialogue: object) -> None:
    """The existing system speaks TLS at once everywhere."""
    assert dialogue is dialogue_for("auto", port)


def test_what_is_spoken_can_be_said() -> None:
    """A mail server may listen on any port, and TLS at once on 25."""
    assert (speak_smtp, None) == (dialogue_for("smtp", 2525), dialogue_for("none", 25))


@pytest.mark.parametrize(
    ("protocol", "said", "told"),
    [
        (
            "smtp",
            b"220 hi\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n",
            b"EHLO ct-ops-agent.invalid\r\nSTARTTLS\r\n",
        ),
        ("imap", b"* OK hi\r\n* CAPABILITY X\r\na1 OK go\r\n", b"a1 STARTTLS\r\n"),
        ("pop3", b"+OK hi\r\n+OK go\r\n", b"STLS\r\n"),
        ("postgres", b"S", bytes.fromhex("0000000804d2162f")),
    ],
)
def test_a_peer_that_agrees_leads_to_tls(protocol: str, said: bytes, told: bytes) -> None:
    """By the words of each protocol."""
    assert told == hold(protocol, said)


@pytest.mark.parametrize(
    ("protocol", "said", "why"),
    [
        ("smtp", b"554 go away\r\n", "the mail server answered '554 go away'"),
        ("smtp", b"220 hi\r\n250 HELP\r\n", "does not offer STARTTLS"),
        ("smtp", b"220 hi\r\n250 STARTTLS\r\n454 not now\r\n", "answered '454 not now'"),
        ("smtp", b"220 hi\r\n250 STARTTLS\r\n220 go\r\n250 forged\r\n", "said more than it was asked before TLS"),
        ("smtp", b"220 \x1b[31mred\r\n250 STARTTLS\r\n4\x1b\x07\r\n", r"answered '4\?\?'"),
        ("smtp", b"", "hung up before TLS"),
        ("smtp", b"x" * (MAX_LINE_BYTES + 5_000), "a line of more than 4096 bytes"),
        ("smtp", b"220-hi\r\n" * (MAX_TOTAL_BYTES // 8 + 100), "more than 32768 bytes before TLS"),
        ("imap", b"* BYE\r\n", r"greeted with '\* BYE'"),
        ("imap", b"* OK\r\na1 BAD what\r\n", "answered 'a1 BAD what'"),
        ("pop3", b"-ERR busy\r\n", "answered '-ERR busy'"),
        ("postgres", b"N", "does not offer TLS"),
        ("postgres", b"Sx", "said more than it was asked before TLS"),
        ("postgres", b"E", "does not offer TLS"),
    ],
)  # fmt: skip
def test_a_peer_that_does_not_is_told_in_its_words(protocol: str, said: bytes, why: str) -> None:
    """Bounded and printable."""
    with pytest.raises(NoStartTlsError, match=why):
        hold(protocol, said)


LINES = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.sampled_from(
            [b"220 a", b"220-a", b"250-STARTTLS", b"250 STARTTLS", b"* OK", b"a1 OK", b"+OK", b"S", b"* x"]
        ),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    protocol=st.sampled_from(sorted(DIALOGUES)), lines=LINES, ending=st.sampled_from([b"\r\n", b"\n", b""])
)
def test_whatever_a_peer_says_leads_to_tls_or_to_a_reason(
    protocol: str, lines: list[bytes], ending: bytes
) -> None:
    """Never to anything else."""
    said = "TLS"
    try:
        hold(protocol, ending.join(lines) + ending)
    except NoStartTlsError as error:
        said = str(error)

    assert said
    assert said.isprintable()

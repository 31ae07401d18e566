"""What is spoken before TLS begins: SMTP, IMAP, POP3 and PostgreSQL. No sockets here but in `upgrade`.

A dialogue is a generator: it yields what to send (maybe nothing) and how much to wait for, and is given what
came. Peers are not trusted: everything that they say before TLS is bounded, and a peer that goes on talking
after it said yes is refused, for what it said would otherwise count as said under TLS.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ct_ops_agent.checks.attempt import Attempt

MAX_LINE_BYTES = 4_096
MAX_TOTAL_BYTES = 32_768
_POSTGRES_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class NoStartTlsError(Exception):
    """The peer does not begin TLS; ``str()`` says how it answered."""


@dataclass(frozen=True, slots=True)
class Say:
    """Send something, then wait for a line, or for so many bytes."""

    send: bytes = b""
    count: int = 0
    """0: a whole line."""


Dialogue: TypeAlias = Generator[Say, bytes, None]


def speak_smtp() -> Dialogue:
    """RFC 3207. Replies may have several lines, ``250-…`` and at last ``250 …``."""
    yield from _smtp_reply(b"", b"220")
    offered = yield from _smtp_reply(b"EHLO ct-ops-agent.invalid\r\n", b"250")
    if b"STARTTLS" not in [line[4:].strip().upper() for line in offered]:
        raise NoStartTlsError("the mail server does not offer STARTTLS")
    yield from _smtp_reply(b"STARTTLS\r\n", b"220")


def _smtp_reply(send: bytes, expected: bytes) -> Generator[Say, bytes, list[bytes]]:
    lines = [(yield Say(send))]
    while lines[-1][3:4] == b"-":
        lines.append((yield Say()))
    if not lines[-1].startswith(expected):
        raise NoStartTlsError(f"the mail server answered {_shown(lines[-1])}")
    return lines


def speak_imap() -> Dialogue:
    """RFC 9051, 6.2.1. Untagged lines may come before the tagged one."""
    greeting = yield Say()
    if not greeting.upper().startswith(b"* OK"):
        raise NoStartTlsError(f"the IMAP server greeted with {_shown(greeting)}")
    line = yield Say(b"a1 STARTTLS\r\n")
    while line.startswith(b"* "):
        line = yield Say()
    if not line.upper().startswith(b"A1 OK"):
        raise NoStartTlsError(f"the IMAP server answered {_shown(line)}")


def speak_pop3() -> Dialogue:
    """RFC 2595, 4."""
    for send in (b"", b"STLS\r\n"):
        line = yield Say(send)
        if not line.startswith(b"+OK"):
            raise NoStartTlsError(f"the POP3 server answered {_shown(line)}")


def speak_postgres() -> Dialogue:
    """SSLRequest: one byte comes back, ``S`` or ``N``."""
    answer = yield Say(_POSTGRES_SSL_REQUEST, count=1)
    if answer != b"S":
        raise NoStartTlsError("the PostgreSQL server does not offer TLS")


DIALOGUES: Mapping[str, Callable[[], Dialogue]] = {
    "smtp": speak_smtp,
    "imap": speak_imap,
    "pop3": speak_pop3,
    "postgres": speak_postgres,
}

_BY_PORT = {25: "smtp", 587: "smtp", 143: "imap", 110: "pop3", 5432: "postgres"}


def dialogue_for(starttls: str, port: int) -> Callable[[], Dialogue] | None:
    """Return what to speak before TLS; ``None``: nothing. ``auto`` goes by the port."""
    return DIALOGUES.get(_BY_PORT.get(port, "none") if starttls == "auto" else starttls)


def upgrade(connection: socket.socket, dialogue: Dialogue, attempt: Attempt) -> None:
    """Hold a dialogue, after which TLS may begin.

    Raises:
        NoStartTlsError: the peer does not begin TLS, or says too much.
        OSError: the connection broke or the time is over.
    """
    heard = _Heard(connection, attempt)
    try:
        say = next(dialogue)
        while True:
            if say.send:
                connection.settimeout(attempt.left())
                connection.sendall(say.send)
            say = dialogue.send(heard.take(say.count) if say.count else heard.line())
    except StopIteration:
        pass
    if heard.waiting:
        raise NoStartTlsError("the server said more than it was asked before TLS, which could be forged")


class _Heard:
    """What the peer said, bounded."""

    def __init__(self, connection: socket.socket, attempt: Attempt) -> None:
        self._connection = connection
        self._attempt = attempt
        self._total = 0
        self.waiting = b""

    def line(self) -> bytes:
        """Return the next line without its end."""
        while b"\n" not in self.waiting:
            if len(self.waiting) > MAX_LINE_BYTES:
                raise NoStartTlsError(f"the server sent a line of more than {MAX_LINE_BYTES} bytes")
            self._receive()
        line, _, self.waiting = self.waiting.partition(b"\n")
        return line.rstrip(b"\r")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        while len(self.waiting) < count:
            self._receive()
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken

    def _receive(self) -> None:
        self._connection.settimeout(self._attempt.left())
        data = self._connection.recv(4_096)
        self._total += len(data)
        if not data:
            raise NoStartTlsError("the server hung up before TLS")
        if self._total > MAX_TOTAL_BYTES:
            raise NoStartTlsError(f"the server sent more than {MAX_TOTAL_BYTES} bytes before TLS")
        self.waiting += data


def _shown(line: bytes) -> str:
    text = line[:200].decode("ascii", errors="replace")
    return repr("".join(character if character.isprintable() else "?" for character in text))

"""The way to the server, one step after the other: name, TCP, TLS, certificate, clock.

Each step says what it found or why it failed, and the steps after a failure say that they were not tried: so
whoever reads it knows at which one to look. Nothing is sent but a request for the published authority, which
carries no secret; two handshakes are made, one that believes nothing (to see what is shown) and one that believes
what the agent believes (to see whether it would).
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from ct_ops_agent.control_plane import Route
from ct_ops_agent.identity.certificates import describe_leaf, names_of
from ct_ops_agent.status.report import format_time
from ct_ops_agent.transport.verified_look import believing

_DEADLINE_S = 8.0
_MOST_HEADER_BYTES = 16 * 1024
_DATE = re.compile(rb"^date: *(.+?)\r?$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One step."""

    step: str
    is_fine: bool
    text: str
    ms: float | None = None
    """What it took."""


def try_address(route: Route, address: str, wall: Callable[[], float] = time.time) -> list[dict[str, Any]]:
    """Try one address of a route.

    Args:
        route: what is believed there.
        address: ``host:port``.
        wall: this host's clock.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return [asdict(finding) for finding in _steps(route, host, int(port), wall)]


def _steps(route: Route, host: str, port: int, wall: Callable[[], float]) -> Iterator[Finding]:
    name = route.server_name or host
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("name", lambda: _resolve(host, port)),
        ("tcp", lambda: _connect(host, port)),
        ("tls", lambda: _shake_hands(host, port, name)),
        ("certificate is believed", lambda: _verify(route, host, port, name)),
        ("clock", lambda: _compare_clocks(host, port, name, wall)),
    )
    for number, (step, attempt) in enumerate(steps):
        began = time.monotonic()
        try:
            yield Finding(step, is_fine=True, text=attempt(), ms=_ms_since(began))
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            yield Finding(step, is_fine=False, text=f"{type(error).__name__}: {error}", ms=_ms_since(began))
            if number < 3:  # without TLS there is nothing to look at; an unbelieved certificate has a clock
                yield from (
                    Finding(later, is_fine=False, text="not tried") for later, _ in steps[number + 1 :]
                )
                return


def _resolve(host: str, port: int) -> str:
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return ", ".join(sorted(found))


def _connect(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=_DEADLINE_S) as connection:
        return f"connected from {connection.getsockname()[0]} to {connection.getpeername()[0]}"


def _shake_hands(host: str, port: int, name: str) -> str:
    """Look at what is shown, without believing it."""
    with _secured(_believing_nothing("h2"), host, port, name) as connection:
        der = connection.getpeercert(binary_form=True) or b""
        pem = ssl.DER_cert_to_PEM_cert(der)
        about = describe_leaf(pem)
        return (
            f"{connection.version()}, {connection.selected_alpn_protocol() or 'no ALPN'}; shown: {about.subject or '-'} "
            f"of {about.issuer}, names {', '.join(names_of(pem)) or '-'}, from {format_time(about.not_before_unix)} "
            f"to {format_time(about.not_after_unix)}, SHA-256 {hashlib.sha256(der).hexdigest()}"
        )


def _verify(route: Route, host: str, port: int, name: str) -> str:
    with _secured(believing(route), host, port, name):
        return f"for {name}, by " + (
            "the agent's trust bundle" if route.roots_pem else "the host's own roots"
        )


def _compare_clocks(host: str, port: int, name: str, wall: Callable[[], float]) -> str:
    """Compare with the date that the server puts on an answer."""
    with _secured(_believing_nothing("http/1.1"), host, port, name) as connection:
        request = f"HEAD /.well-known/ct-ops/ca.pem HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("ascii", errors="replace"))
        answer = connection.recv(_MOST_HEADER_BYTES)
    if (found := _DATE.search(answer)) is None:
        raise ValueError("the server does not say its time")
    skew_s = wall() - parsedate_to_datetime(found[1].decode("ascii", errors="replace")).timestamp()
    return f"this host's clock minus the server's: {skew_s:+.0f} s (to the second)"


def _secured(context: ssl.SSLContext, host: str, port: int, name: str) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), timeout=_DEADLINE_S)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def _believing_nothing(protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)

"""Whom TLS checks believe.

Reading the CAs of a host takes some 25 ms of CPU, which with a few checks would be most of what the agent
costs. So they are read once, and again when their file or folder has changed.
"""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import TypeAlias

_Stamp: TypeAlias = tuple[str, float]


class SystemTrust:
    """The CAs of this host, as OpenSSL finds them. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: tuple[tuple[_Stamp, ...], ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that verifies names and believes these CAs."""
        with self._lock:
            stamps = _stamps()
            if self._known is None or self._known[0] != stamps:
                self._known = stamps, ssl.create_default_context()
            return self._known[1]


SYSTEM_TRUST = SystemTrust()


def own_trust(ca_pem: str) -> ssl.SSLContext:
    """Return a context that believes only these certificates.

    Raises:
        ssl.SSLError, ValueError: they are none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it may be an intermediate, or the server's own
    context.load_verify_locations(cadata=ca_pem)
    return context


def trust_in_nobody() -> ssl.SSLContext:
    """Return a context that takes every certificate, to look at it. Nothing may be sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _stamps() -> tuple[_Stamp, ...]:
    found = ssl.get_default_verify_paths()
    return tuple((path, _changed_at(path)) for path in (found.cafile, found.capath) if path)


def _changed_at(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0

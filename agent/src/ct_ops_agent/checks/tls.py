"""Looks at the certificates that a TLS port presents, whoever signed them.

First as a client that verifies: then it is known whether others would trust the port, and one connection is
enough. When that fails, once more as a client that believes nobody and therefore sees everything; it sends
nothing, so nothing can be taken from it, and it may speak what is obsolete.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

from ct_ops_agent.checks.attempt import Attempt, connect
from ct_ops_agent.checks.starttls import dialogue_for, upgrade
from ct_ops_agent.checks.trust import SYSTEM_TRUST, trust_in_nobody
from ct_ops_agent.checks.verdict import reason
from ct_ops_proto.checks import CertificateCheck

MAX_CHAIN = 10


@dataclass(frozen=True, slots=True)
class Presented:
    """What a port presented."""

    chain: tuple[bytes, ...]
    """DER, the server's own first, as the server sent them."""

    trust_problem: str
    """Why a client of this host would not trust it; empty: it would."""

    tls_version: str


def look(config: CertificateCheck, attempt: Attempt) -> Presented:
    """Return what the port presents.

    Raises:
        OSError: no connection, or no TLS on it (``ssl.SSLError``).
        NoStartTlsError: the protocol before TLS did not lead to it.
        ValueError: the name cannot be asked for.
    """
    try:
        _require_name(config.server_name or config.host)
        return _look(config, attempt, SYSTEM_TRUST.context(), "")
    except ssl.SSLCertVerificationError as error:
        problem = error.verify_message
    except ssl.SSLError as error:
        problem = reason(error)
    return _look(config, attempt, trust_in_nobody(), problem)


def _look(config: CertificateCheck, attempt: Attempt, trust: ssl.SSLContext, problem: str) -> Presented:
    plain = connect(config.host, config.port, attempt)
    with attempt.watching(plain):
        if dialogue := dialogue_for(config.starttls, config.port):
            upgrade(plain, dialogue(), attempt)
        secured = trust.wrap_socket(
            plain, server_hostname=config.server_name or config.host, do_handshake_on_connect=False
        )
        with attempt.watching(secured):
            secured.settimeout(attempt.left())
            secured.do_handshake()
            return Presented(_chain(secured), problem, secured.version() or "")


def _require_name(name: str) -> None:
    """Find out before a socket is wrapped, for that would leave it open to the garbage collector."""
    try:
        name.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"{name!r} is no name that can be asked for") from error


def _chain(secured: ssl.SSLSocket) -> tuple[bytes, ...]:
    own = secured.getpeercert(binary_form=True)
    public: Any = getattr(secured, "get_unverified_chain", None)  # Python 3.13
    if public is not None:
        return tuple(public())[:MAX_CHAIN]
    # Before 3.13 the same call exists one layer below, and nowhere else.
    inner: Any = getattr(secured, "_sslobj", None)
    found = inner.get_unverified_chain() if hasattr(inner, "get_unverified_chain") else None
    if found:
        return tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in found[:MAX_CHAIN])
    return (own,) if own else ()

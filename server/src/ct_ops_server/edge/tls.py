"""The server's TLS contexts.

Identity is decided *after* the handshake (rule 1): OpenSSL's store only decides whether a handshake
completes, so it knows every agent authority there ever was, and no date is checked in it. What a
leaf then proves is ``authority.leaf_identity``'s business.

Facts behind the settings:

* Without ``X509_V_FLAG_NO_CHECK_TIME`` an expired leaf fails the handshake, and with it every way
  back in: existing agents always present their leaf, also on Register.
* ``num_tickets = 0`` stops tickets of TLS 1.3 only; ``OP_NO_TICKET`` those of 1.2 (rule 7). A ticket
  would keep a session's leaf in the client's hands and cost memory here.
* ALPN prefers http/1.1: curl and Go's HTTP client offer both, gRPC only h2 (rule 3).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name
_ALPN = ["http/1.1", "h2"]


@dataclass(frozen=True)
class TlsContexts:
    """What the door offers at a handshake."""

    asking: ssl.SSLContext
    """Asks for a leaf and does not insist."""
    not_asking: ssl.SSLContext
    """For the one connection after a leaf of an unknown authority."""


def build_contexts(*, chain: Path, key: Path, authorities_pem: Sequence[str]) -> TlsContexts:
    """Load the server's certificate and every agent authority ever used.

    Raises:
        OSError, ssl.SSLError: the files are unreadable or do not belong together.
    """
    asking, not_asking = _context(chain, key), _context(chain, key)
    asking.verify_mode = ssl.CERT_OPTIONAL
    asking.verify_flags |= _NO_CHECK_TIME
    if authorities_pem:
        asking.load_verify_locations(cadata="\n".join(authorities_pem))
    return TlsContexts(asking, not_asking)


def _context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(_ALPN)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context

"""The agent CA that the settings name, as far as it can be opened.

A rotation may have gone past it: then nothing is wanted of it, and neither a private key that was erased since, as
the log asked for, nor its end must keep a server from starting. So what is wrong with it is kept here, and
``starting`` decides whether that matters. What is no certificate at all cannot be told from the active one, and is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.issuer import UNREADABLE, Issuer, must_be_usable, open_brought
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.config.schema import Settings

_SETTING = "INGEST_AGENT_CA_CERT"


@dataclass(frozen=True, slots=True)
class Brought:
    """What INGEST_AGENT_CA_CERT and INGEST_AGENT_CA_KEY name."""

    certificates: tuple[x509.Certificate, ...]
    """The chain, the one that signs first; as the file has them when the key does not say which one that is."""
    issuer: Issuer | None = None
    defect: AuthorityError | None = None
    """Why it cannot be taken up."""


def brought_authority(settings: Settings, secret: SealingSecret) -> Brought | None:
    """Return the agent CA that the settings name, None when they name none.

    Raises:
        AuthorityError: its certificate cannot be read.
    """
    certificate, key = settings.agent_ca_cert, settings.agent_ca_key
    if certificate is None or key is None:
        return None
    origin = Path(_SETTING if certificate.path is None else certificate.path)
    try:
        pem = certificate.read()
        certificates = tuple(x509.load_pem_x509_certificates(pem))
    except OSError as error:
        raise AuthorityError(origin, f"cannot be read ({error.strerror}).") from error
    except UNREADABLE as error:
        raise AuthorityError(origin, "holds no certificate in PEM form. Name a PEM file.") from error
    try:
        issuer = open_brought(origin, pem, key.read(), secret)
    except OSError as error:
        return Brought(
            certificates, defect=AuthorityError(origin, f"has a key that cannot be read ({error.strerror}).")
        )
    except AuthorityError as error:
        return Brought(certificates, defect=error)
    return Brought(issuer.chain, issuer)


def looked_at(brought: Brought, now: datetime) -> Brought:
    """Return it with what keeps it from being taken up now."""
    if brought.issuer is None:
        return brought
    try:
        must_be_usable(brought.issuer, now)
    except AuthorityError as error:
        return replace(brought, defect=error)
    return brought

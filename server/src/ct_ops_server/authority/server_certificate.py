"""The server's own TLS certificate, and the certificate that agents pin.

Two ways to have one:

* **configured**: ``INGEST_TLS_CERT`` and ``INGEST_TLS_KEY``. What agents pin is ``INGEST_TLS_CA``,
  else the CA at the end of the chain file, else the leaf itself; then ``pin_is_leaf`` is true and
  every token made is void once that leaf is replaced.
* **our own**, for a newcomer: a server CA (a stranger to the agent CA) and a certificate for the names
  of this host. It is issued again, for the *same key*, when less than a third of its life is left,
  a wanted name is missing, or another server CA signs (``server_ca``); pins handed out stay good as long as their CA.

The server's own key is not sealed: the TLS library reads the file itself. It is 0600 in a 0700 folder.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.issuer import is_issued_by
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.server_ca import ServerCas, open_server_cas
from ct_ops_server.authority.server_ca_files import STATE_FILE
from ct_ops_server.authority.server_ca_lineage import MOST_ANCHORS
from ct_ops_server.authority.server_leaf import make_server_certificate, reason_to_issue


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What the front door presents, and what tokens pin."""

    cert_file: Path
    """The chain, leaf first, as PEM."""
    key_file: Path
    """Its unencrypted private key, as PEM."""
    chain_pem: str
    ca_pem: str
    ca_der: bytes
    pin_is_leaf: bool
    """The pin is the server certificate's own and ends with it."""
    not_after: datetime
    anchors: tuple[bytes, ...] = ()
    """The CAs (DER) that agents shall believe, the one that signs first. Empty: the pin is the certificate's own."""
    state_file: Path | None = None
    """Changes when a server CA takes a step; only our own have one."""
    look_again_at: datetime | None = None
    """When time changes something about our own server CAs."""
    made: tuple[str, ...] = ()
    """One sentence for each thing created or issued again just now."""

    @property
    def not_before(self) -> datetime:
        """When it begins."""
        return self._leaf().not_valid_before_utc

    @property
    def pin(self) -> bytes:
        """SHA-256 of ``ca_der``, 32 bytes: what enrolment tokens carry."""
        return hashlib.sha256(self.ca_der).digest()

    @property
    def published_pem(self) -> str:
        """What first contact by pin is offered: also CAs that earlier tokens pin."""
        others = (ssl.DER_cert_to_PEM_cert(der) for der in self.anchors if der != self.ca_der)
        return "".join((self.ca_pem, *others))

    @property
    def newest_anchor(self) -> bytes | None:
        """The server CA (DER) that agents shall come to believe: the youngest. None: none is announced."""
        parsed = {der: x509.load_der_x509_certificate(der) for der in self.anchors}
        return max(parsed, key=lambda der: parsed[der].not_valid_before_utc, default=None)

    @property
    def existing_end(self) -> datetime:
        """When the first of what existing agents may believe ends: they know none that is announced."""
        if not self.anchors:
            return self.not_after
        signs, *others = (x509.load_der_x509_certificate(der) for der in self.anchors)
        known = [each for each in others if each.not_valid_before_utc < signs.not_valid_before_utc]
        return min(each.not_valid_after_utc for each in (signs, *known))

    @property
    def certificate_der(self) -> bytes:
        """The server's own certificate: what an agent sees in the handshake, and names in a key proof."""
        return self._leaf().public_bytes(serialization.Encoding.DER)

    @property
    def public_key_der(self) -> bytes:
        """Its key as SubjectPublicKeyInfo: what the one-line install pins, and our own renewals keep."""
        return spki_of(self._leaf())

    def _leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificates(self.chain_pem.encode())[0]


def spki_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate's key as DER SubjectPublicKeyInfo."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def load_configured_tls(cert_file: Path, key_file: Path, ca_file: Path | None) -> ServerTls:
    """Return the operator's certificate with what agents shall pin.

    Raises:
        AuthorityError: a file is missing, unreadable or no certificate, or the CA did not sign the chain.
    """
    pem = _read_named(cert_file)
    chain = _parse_chain(cert_file, pem)
    root = _ca_at_end(chain) if ca_file is None else _ca_in_file(ca_file, chain)
    pinned = root or chain[0]
    bundle = [] if ca_file is None else _parse_chain(ca_file, _read_named(ca_file))
    anchors = () if root is None else (root, *(each for each in bundle if each != root and _is_ca(each)))
    return ServerTls(
        cert_file=cert_file,
        key_file=key_file,
        chain_pem=pem.decode("ascii", errors="replace"),
        ca_pem=pinned.public_bytes(serialization.Encoding.PEM).decode(),
        ca_der=pinned.public_bytes(serialization.Encoding.DER),
        pin_is_leaf=pinned == chain[0],
        not_after=chain[0].not_valid_after_utc,
        anchors=_ders(anchors[:MOST_ANCHORS]),
    )


def load_or_create_tls(
    data_dir: Path, secret: SealingSecret, *, names: Sequence[str], now: datetime
) -> ServerTls:
    """Return our own certificate for ``names``, making or issuing again what is needed.

    Args:
        data_dir: holds the server CAs' files, ``server.crt`` and ``server.key``.
        secret: seals the server CAs' keys.
        names: DNS names and addresses, canonical (``host_names``); the first DNS name becomes the CN.
        now: the moment of signing.

    Raises:
        WrongSecretError: the CA's key is sealed with another secret.
        AuthorityError: a file is damaged or unreadable, or the CA is not valid now.
    """
    cas = open_server_cas(data_dir, secret, now=now)
    cert_file, key_file = data_dir / "server.crt", data_dir / "server.key"
    key = _load_or_create_server_key(key_file)
    chain, made = _issue_if_due(cert_file, cas, key.public_key(), names, now)
    return ServerTls(
        cert_file=cert_file,
        key_file=key_file,
        chain_pem=_to_pem(chain),
        ca_pem=cas.signs.pem,
        ca_der=cas.signs.der,
        pin_is_leaf=False,
        not_after=chain[0].not_valid_after_utc,
        anchors=_ders(cas.announced),
        state_file=data_dir / STATE_FILE,
        look_again_at=cas.look_again_at(),
        made=(*cas.made, *made),
    )


def _issue_if_due(
    cert_file: Path, cas: ServerCas, key: ec.EllipticCurvePublicKey, names: Sequence[str], now: datetime
) -> tuple[list[x509.Certificate], list[str]]:
    """Return the chain to serve, and what was made for it: the certificate, then what vouches for its CA."""
    old = _load_own_chain(cert_file)
    leaf = old[0] if old else None
    why = reason_to_issue(leaf, root=cas.signs.certificate, key=key, names=names, now=now)
    if leaf is None or why is not None:
        leaf = make_server_certificate(cas.signs, key, names, now=now)
    chain = [leaf, *cas.crosses]
    if chain != old:
        files.replace_private(cert_file, _to_pem(chain).encode())
    return chain, [] if why is None else [f"{cert_file}: the server's certificate ({why})."]


def _load_or_create_server_key(path: Path) -> ec.EllipticCurvePrivateKey:
    content = files.load_private(path)
    if content is None:
        fresh = ec.generate_private_key(ec.SECP256R1())
        pem = fresh.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return fresh if files.create_private(path, pem) else _load_or_create_server_key(path)
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(path, "holds no private key in PEM form. Remove it to have one made.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(path, "is no elliptic curve key. Remove it to have one made.")
    return key


def _load_own_chain(path: Path) -> list[x509.Certificate]:
    pem = files.load_private(path)
    return [] if pem is None else _parse_chain(path, pem)


def _to_pem(chain: Sequence[x509.Certificate]) -> str:
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in chain)


def _ders(certificates: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(serialization.Encoding.DER) for each in certificates)


def _read_named(path: Path) -> bytes:
    content = files.load_named(path)
    if content is None:
        raise AuthorityError(path, "does not exist.")
    return content


def _parse_chain(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise AuthorityError(path, "holds no certificate in PEM form.") from error


def _ca_at_end(chain: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Return the CA that ends a chain file, None when the file holds the leaf alone."""
    return chain[-1] if len(chain) > 1 and _is_ca(chain[-1]) else None


def _ca_in_file(path: Path, chain: Sequence[x509.Certificate]) -> x509.Certificate:
    """Return the certificate in the CA file that signed the chain, or is its end."""
    for candidate in _parse_chain(path, _read_named(path)):
        if candidate == chain[-1] or is_issued_by(chain[-1], candidate):
            return candidate
    raise AuthorityError(
        path,
        "holds no CA that signed the end of the chain in INGEST_TLS_CERT. Name the CA that did, or leave it out.",
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False

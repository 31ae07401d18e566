"""What an installation shows and seals with: the secret, the server's certificate, the key of the audit log.

Whom it trusts, and what it signs agents' leaves and tokens with, is the keyring's.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from ct_ops_server.authority.audit_key import AuditKey, load_or_create_audit_key
from ct_ops_server.authority.host_names import local_names
from ct_ops_server.authority.sealing import SealingSecret, load_or_create_secret
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_certificate import ServerTls, load_configured_tls, load_or_create_tls
from ct_ops_server.authority.text_seal import TextSeal
from ct_ops_server.authority.web_certificate import WebCertificateFile
from ct_ops_server.config.schema import Settings
from ct_ops_server.ownership import one_at_a_time
from ct_ops_server.public_address import host_of

_log = logging.getLogger("ct_ops_server.keys")


@dataclass(frozen=True)
class Keys:
    """What the server shows and seals with, and what of it was made just now."""

    secret: SealingSecret
    tls: ServedTls
    web_certificate: WebCertificateFile
    text_seal: TextSeal
    audit: AuditKey
    made: tuple[str, ...]


def open_keys(settings: Settings, *, now: datetime) -> Keys:
    """Load the secret and the server's certificate, making for a newcomer what is missing.

    Raises:
        AuthorityError: something is there and cannot be used.
    """
    secret = load_or_create_secret(settings.secret_file)
    is_our_own = settings.tls_cert is None
    tls = _load_tls(settings, secret, now)
    served = ServedTls(
        tls,
        load=lambda later: _load_tls(settings, secret, later),
        ca_file=settings.tls_ca,
        is_our_own=is_our_own,
    )
    web_certificate = WebCertificateFile(settings.web_server_cert)
    audit = load_or_create_audit_key(settings.data_dir, secret)
    if audit.lost:
        _log.error("%s", audit.lost)
    made = (*secret.made, *tls.made, *audit.made)
    return Keys(secret, served, web_certificate, TextSeal(secret), audit, made)


def _load_tls(settings: Settings, secret: SealingSecret, now: datetime) -> ServerTls:
    if settings.tls_cert is not None and settings.tls_key is not None:
        return load_configured_tls(settings.tls_cert, settings.tls_key, settings.tls_ca)
    hosts = [host_of(address) for address in settings.public_addresses]
    with one_at_a_time(
        settings.data_dir
    ):  # a worker that finds it due finds it done when another one was first
        return load_or_create_tls(settings.data_dir, secret, names=local_names(hosts), now=now)

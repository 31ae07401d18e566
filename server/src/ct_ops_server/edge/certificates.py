"""Follows the certificates that are served: the door's own, and the one that agents pin for downloads.

Looks once a second; new connections get the new certificate at once, those that are open go on. What
cannot be used is said once and changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import datetime

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_certificate import ServerTls
from ct_ops_server.authority.web_certificate import WebCertificateFile

_log = logging.getLogger("ct_ops_server.certificates")
_LOOK_EVERY_S = 1.0


class CertificateFollower:
    """Takes what has changed into service."""

    def __init__(
        self,
        served: ServedTls,
        web_certificate: WebCertificateFile,
        *,
        present: Callable[[ServerTls], None],
        now: Callable[[], datetime],
    ) -> None:
        """Prepare; ``present`` serves a certificate from now on, or raises OSError (also ``ssl.SSLError``)."""
        self._served = served
        self._web_certificate = web_certificate
        self._present = present
        self._now = now

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Look once."""
        self._look_at_server_certificate()
        self._look_at_web_certificate()

    def _look_at_server_certificate(self) -> None:
        try:
            candidate = self._served.candidate(self._now())
            if candidate is None:
                return
            self._present(candidate)
        except (AuthorityError, OSError) as error:
            reason = (error.reason or str(error)) if isinstance(error, ssl.SSLError) else str(error)
            _log.error(
                "the server's certificate has changed and cannot be used, the old one stays: %s", reason
            )
            return
        self._served.accept(candidate)
        for sentence in candidate.made:
            _log.info("made %s", sentence)
        _log.info("new connections get the server certificate that ends %s", candidate.not_after.isoformat())

    def _look_at_web_certificate(self) -> None:
        try:
            if self._web_certificate.refresh() and self._web_certificate.current is not None:
                _log.info(
                    "agents are told of the HTTPS certificate with SHA-256 %s",
                    self._web_certificate.current.fingerprint,
                )
        except AuthorityError as error:
            _log.error("INGEST_WEB_SERVER_CERT has changed and cannot be used, the old one stays: %s", error)

"""The pinned HTTPS certificate: what this host believes when it downloads, told over the stream.

``server_cert.pem`` (0644, it is no secret), as existing agents have it. The server is told its SHA-256
with every heartbeat and sends another one when that was replaced there.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from ct_ops_agent.identity.files import load_public_file, write_public_file
from ct_ops_agent.identity.keystore import parse_pem

SERVER_CERTIFICATE_NAME = "server_cert.pem"

_log = logging.getLogger(__name__)


class ServerPin:
    """The pinned certificate of one data directory."""

    def __init__(self, directory: Path) -> None:
        """Read it.

        Raises:
            DataDirectoryError: the file is a symbolic link, or not readable.
        """
        self._path = directory / SERVER_CERTIFICATE_NAME
        self._fingerprint = fingerprint_of(load_public_file(self._path) or "")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first certificate, lower-case hex; empty: none is pinned."""
        return self._fingerprint

    def keep(self, pem: str) -> None:
        """Pin another certificate; what is none is not pinned.

        Raises:
            DataDirectoryError: it cannot be written down.
        """
        fingerprint = fingerprint_of(pem)
        if not fingerprint:
            _log.warning("the server sent an HTTPS certificate that is none; the pinned one stays")
            return
        write_public_file(self._path, pem)
        self._fingerprint = fingerprint
        _log.info("downloads are believed from the certificate with SHA-256 %s from now on", fingerprint)


def fingerprint_of(pem: str) -> str:
    """Return the SHA-256 of the first certificate in a PEM text, empty when there is none."""
    ders = [der for label, der in parse_pem(pem) if label == "CERTIFICATE"]
    return hashlib.sha256(ders[0]).hexdigest() if ders else ""

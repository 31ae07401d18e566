"""``INGEST_WEB_SERVER_CERT``: the certificate of the HTTPS server that agents download from.

Agents pin it. When an operator replaces it, agents learn the new one over their heartbeat stream,
which they trust already, and go on downloading. A file that is damaged or gone for a while changes
nothing: the last good one stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.server_certificate import spki_of
from ct_ops_server.authority.watched_files import WatchedFiles


@dataclass(frozen=True, slots=True)
class WebCertificate:
    """What agents pin."""

    pem: str
    """The file as it is: agents may need its chain."""
    fingerprint: str
    """SHA-256 of the first certificate's DER, lower-case hex: what agents report."""
    public_key_der: bytes
    """The key of the first one, as SubjectPublicKeyInfo: what the one-line install pins."""


class WebCertificateFile:
    """The file, re-read when it changes. Without a path there is nothing to push."""

    def __init__(self, path: Path | None) -> None:
        """Read it for the first time.

        Raises:
            AuthorityError: it is set and cannot be used.
        """
        self._path = path
        self._current = None if path is None else load_web_certificate(path)
        self._files = WatchedFiles([] if path is None else [path])

    @property
    def current(self) -> WebCertificate | None:
        """The last good one."""
        return self._current

    def refresh(self) -> bool:
        """Re-read the file when it has changed; return whether there is another certificate now.

        Raises:
            AuthorityError: it cannot be used now; said once for each change of it.
        """
        if self._path is None or not self._files.changed():
            return False
        before, self._current = self._current, load_web_certificate(self._path)
        return before != self._current

    def news_for(self, pinned_fingerprint: str) -> WebCertificate | None:
        """Return the certificate unless the agent has pinned this very one."""
        current = self._current
        return None if current is None or current.fingerprint == pinned_fingerprint.lower() else current


def load_web_certificate(path: Path) -> WebCertificate:
    """Read it.

    Raises:
        AuthorityError: it cannot be used.
    """
    try:
        pem = path.read_bytes()
        first = x509.load_pem_x509_certificates(pem)[0]
    except OSError as error:
        raise AuthorityError(path, f"cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise AuthorityError(path, "holds no certificate in PEM form.") from error
    return WebCertificate(
        pem.decode("ascii", errors="replace"), first.fingerprint(hashes.SHA256()).hex(), spki_of(first)
    )

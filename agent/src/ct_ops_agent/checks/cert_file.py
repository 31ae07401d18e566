"""Check ``cert_file``: the certificate in a file is within its dates. PEM (also DER) and PKCS#12.

The password of a PKCS#12 file goes to the library and nowhere else: what the library says about it is replaced
by words of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.host_files import UnreadableFileError, read_host_file
from ct_ops_agent.checks.report import judge
from ct_ops_agent.checks.verdict import Verdict, undone
from ct_ops_proto.checks import CertFileCheck

MAX_FILE_BYTES = 1024 * 1024
MAX_CHAIN = 10


class _UnusableError(Exception):
    """``str()`` says what the file lacks."""


def probe(config: CertFileCheck, attempt: Attempt, wall: Callable[[], float] = time.time) -> Verdict:
    """Read, parse, judge."""
    if config.format == "jks":
        return undone(
            "jks key stores are not read by this agent; convert it: keytool -importkeystore … pkcs12"
        )
    attempt.left()
    try:
        content = read_host_file(config.file_path, MAX_FILE_BYTES)
        read = _from_pkcs12 if config.format == "pkcs12" else _from_pem
        return judge(
            read(content, config.password)[:MAX_CHAIN],
            min_days_left=config.min_days_left,
            now_unix=wall(),
            origin={"file_path": config.file_path, "format": config.format},
        )
    except UnreadableFileError as error:
        return undone(str(error))
    except _UnusableError as error:
        return undone(f"{config.file_path} {error}")
    except ValueError:
        return undone(f"{config.file_path} holds a certificate that cannot be read")


def _from_pem(content: bytes, _password: str) -> list[x509.Certificate]:
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError:
        raise _UnusableError("holds no certificate that can be read") from None


def _from_pkcs12(content: bytes, password: str) -> list[x509.Certificate]:
    try:
        store = load_pkcs12(content, password.encode() or None)
    except UnsupportedAlgorithm:
        raise _UnusableError("is encrypted with something obsolete that this agent cannot read") from None
    except (ValueError, TypeError):
        # Not the library's text, nor its exception: nobody needs to know how near the password was.
        raise _UnusableError("is no PKCS#12 file, or the password is wrong") from None
    own = [store.cert.certificate] if store.cert else []
    found = own + [extra.certificate for extra in store.additional_certs]
    if not found:
        raise _UnusableError("holds no certificate")
    return found

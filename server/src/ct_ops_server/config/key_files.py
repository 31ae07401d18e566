"""Whether the certificates and keys that the settings name can be used: looked at, never changed.

Set and unreadable is fatal. Falling back to a certificate of our own would break every agent that
trusts the operator's, and would look like a server that works. The library that reads them is imported when one is
named: every command loads the settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_ops_server.config.problems import Problem
from ct_ops_server.config.schema import Settings, Source

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_CERT, _KEY, _CA = "INGEST_TLS_CERT", "INGEST_TLS_KEY", "INGEST_TLS_CA"
_AGENT_CA, _AGENT_CA_KEY = "INGEST_AGENT_CA_CERT", "INGEST_AGENT_CA_KEY"
_WEB = "INGEST_WEB_SERVER_CERT"
_JWT, _SECRET = "INGEST_JWT_KEY_FILE", "INGEST_SECRET_FILE"  # names of variables


def key_file_problems(settings: Settings) -> list[Problem]:
    """Return what is wrong with the files that the settings name."""
    return [
        *_tls_problems(settings),
        *_agent_ca_problems(settings),
        *_jwt_problems(settings),
        *_secret_problems(settings),
        *_web_certificate_problems(settings),
    ]


def _tls_problems(settings: Settings) -> list[Problem]:
    """Look at every file that is named, also when another one is missing: all problems at once."""
    cert, key, authority = settings.tls_cert, settings.tls_key, settings.tls_ca
    chain = None if cert is None else _certificates(_CERT, cert)
    private = None if key is None else _private_key(key)
    ca = None if authority is None else _certificates(_CA, authority)
    problems = [result for result in (chain, private, ca) if isinstance(result, Problem)]
    if isinstance(chain, list) and not (private is None or isinstance(private, Problem)):
        problems += _mismatch(chain, private, cert)
    return [*_half_set(settings), *problems]


def _agent_ca_problems(settings: Settings) -> list[Problem]:
    """Look whether both are given, and the certificate can be read; what makes a CA unusable is the authority's to say.

    So is a missing key: of a CA that is retired the operator erases it.
    """
    pair = {_AGENT_CA: settings.agent_ca_cert, _AGENT_CA_KEY: settings.agent_ca_key}
    given = [name for name, source in pair.items() if source is not None]
    problems = []
    if len(given) == 1:
        (missing,) = set(pair) - set(given)
        problems.append(
            Problem(missing, f"is not set, but {given[0]} is", "Set both, or neither to have them made")
        )
    certificate = settings.agent_ca_cert
    if certificate is not None and certificate.path is not None:
        problems += _unreadable(_AGENT_CA, certificate.path)
    return problems


def _mismatch(chain: list[x509.Certificate], private: PrivateKeyTypes, cert: Path | None) -> list[Problem]:
    if chain[0].public_key() == private.public_key():
        return []
    return [Problem(_KEY, f"does not belong to the certificate in {cert}", "Name the key it was made for")]


def _half_set(settings: Settings) -> list[Problem]:
    problems = []
    if settings.tls_cert is not None and settings.tls_key is None:
        problems.append(
            Problem(_KEY, f"is not set, but {_CERT} is", "Set both, or neither to have them made")
        )
    if settings.tls_key is not None and settings.tls_cert is None:
        problems.append(
            Problem(_CERT, f"is not set, but {_KEY} is", "Set both, or neither to have them made")
        )
    if settings.tls_ca is not None and settings.tls_cert is None:
        problems.append(
            Problem(_CA, f"means nothing without {_CERT} and {_KEY}", "Set those too, or remove it")
        )
    return problems


def _certificates(name: str, path: Path) -> list[x509.Certificate] | Problem:
    from cryptography import x509  # noqa: PLC0415  see above

    content = _content(name, path)
    if isinstance(content, Problem):
        return content
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        return Problem(name, f"names {path}, which holds no certificate in PEM form", "Name a PEM file")


def _private_key(path: Path) -> PrivateKeyTypes | Problem:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  see above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    content = _content(_KEY, path)
    if isinstance(content, Problem):
        return content
    if (
        b"BEGIN ENCRYPTED " in content or b",ENCRYPTED" in content
    ):  # the TLS library would ask for the passphrase on a terminal nobody watches
        return Problem(
            _KEY, f"names {path}, which is encrypted", "Decrypt it (openssl pkey -in … -out …), mode 0600"
        )
    try:
        return load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return Problem(_KEY, f"names {path}, which holds no private key in PEM form", "Name a PEM file")


def _jwt_problems(settings: Settings) -> list[Problem]:
    path = settings.jwt_key_file
    if path is None:
        return []
    if not _is_missing(path):
        return _unreadable(_JWT, path)
    if not path.parent.is_dir():
        return [
            Problem(
                _JWT, f"names {path}, whose folder does not exist", "Create the folder: the key is made in it"
            )
        ]
    return []


def _secret_problems(settings: Settings) -> list[Problem]:
    """A missing secret is made in the data directory only: elsewhere it is a mount that failed."""
    path = settings.secret_file
    if settings.sources[_SECRET] is Source.DEFAULT or path.parent == settings.data_dir:
        return []
    if not _is_missing(path):
        return _unreadable(_SECRET, path)
    remedy = f"Mount it, or make it once: (umask 077; openssl rand -hex 32 > {path})"
    return [Problem(_SECRET, f"names {path}, which does not exist", remedy)]


def _web_certificate_problems(settings: Settings) -> list[Problem]:
    if settings.web_server_cert is None:
        return []
    found = _certificates(_WEB, settings.web_server_cert)
    return [found] if isinstance(found, Problem) else []


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:  # it cannot be known; reading it will say why
        return False
    return False


def _unreadable(name: str, path: Path) -> list[Problem]:
    content = _content(name, path)
    return [content] if isinstance(content, Problem) else []


def _content(name: str, path: Path) -> bytes | Problem:
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "Correct the path, or make the file readable for this user"
        return Problem(name, f"names {path}, which cannot be read ({error.strerror})", remedy)

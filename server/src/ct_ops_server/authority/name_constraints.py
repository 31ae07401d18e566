"""Whether the names of our leaves fit the name constraints of those above them.

A CA may say whom it certifies. The handshake holds every leaf against that, so a CA whose constraints no leaf of ours
fits would be found out by the first agent. What a leaf is called (``ca``): a subject of one common name, the agent id,
and one URI, ``spiffe://ct-ops/…``. So constraints on URIs and on directory names matter; those on DNS names,
addresses and e-mail do not, since a leaf has none: an agent id holds no dot, so OpenSSL takes it for no DNS name.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from cryptography import x509

from ct_ops_server.authority.spiffe import SpiffeName, format_uri

_URI = format_uri(SpiffeName("installation", "agent"))
_HOST = urlsplit(_URI).netloc
_WAY_OUT = f"allow URIs of the host {_HOST!r}, or bring a CA without name constraints"


def constraint_broken(certificate: x509.Certificate) -> str | None:
    """Return which constraint of a CA no leaf of ours fits, as the end of a sentence; None when they fit."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    permitted, excluded = constraints.permitted_subtrees or (), constraints.excluded_subtrees or ()
    uris = _uris(permitted)
    if uris and not any(_covers(each) for each in uris):
        return _no_leaf(f"they permit URIs of {_listed(uris)} only")
    if any(_covers(each) for each in _uris(excluded)):
        return _no_leaf(f"they exclude URIs of {_listed(_uris(excluded))}")
    names = _directory_names(permitted)
    if names and all(list(name) for name in names):  # an empty one permits every name
        permits = " or ".join(repr(name.rfc4514_string()) for name in names)
        return _no_leaf(
            f"they permit subjects below {permits} only, and a leaf's subject is the agent id alone"
        )
    if any(not list(name) for name in _directory_names(excluded)):
        return _no_leaf("they exclude every subject")
    return None


def _no_leaf(why: str) -> str:
    return f"has name constraints that no agent's certificate ({_URI.rsplit('/', 3)[0]}/…) fits: {why}. {_WAY_OUT}"


def _uris(subtrees: Iterable[x509.GeneralName]) -> list[str]:
    return [each.value for each in subtrees if isinstance(each, x509.UniformResourceIdentifier)]


def _directory_names(subtrees: Iterable[x509.GeneralName]) -> list[x509.Name]:
    return [each.value for each in subtrees if isinstance(each, x509.DirectoryName)]


def _covers(constraint: str) -> bool:
    """Return whether a constraint on URIs covers our host, as RFC 5280 says: a host, or a domain after a dot."""
    wanted = constraint.lower()
    return wanted in {"", _HOST} or (wanted.startswith(".") and _HOST.endswith(wanted))


def _listed(uris: Iterable[str]) -> str:
    return ", ".join(repr(each) for each in uris)

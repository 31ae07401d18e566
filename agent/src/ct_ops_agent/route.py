"""Which server, and whom to believe there.

The decision is a pure table (:func:`plan_route`), read top to bottom:

==============================================  ==============================================
what is there                                   what is believed
==============================================  ==============================================
a trust bundle from an earlier first contact    that bundle; the token's hint no longer matters
a token with a hint                             the authority whose digest is the pin
``tls_skip_verify``                             the certificate shown on first contact
none of these                                   the host's own roots
==============================================  ==============================================

A configured ``ca_cert_file`` is believed instead of all that, except that ``tls_skip_verify`` sets
it aside, as existing agents do; one that differs from the pin of a token not yet used is refused.
The file that our own installer put there is nobody's wish but a beginning: what was learnt from its server
since then counts, until somebody changes that file.
A configured address wins over every other.

First contact by pin sends nothing secret and believes nothing: it fetches a certificate, and only
its digest decides. The network itself is behind :class:`FirstContact`.
"""

import hashlib
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ct_ops_agent.control_plane import AnchorSource, Route
from ct_ops_agent.errors import ConfigError, EnrolmentRefusedError, Problem, Refusal, UnreachableError
from ct_ops_agent.identity.credentials import StoredRoute
from ct_ops_agent.identity.keystore import parse_pem, to_pem
from ct_ops_proto.enrolment_token import ServerHint

_log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "localhost:9443"


@dataclass(frozen=True)
class PresentedCertificate:
    """What a server showed on an unverified connection."""

    pem: str
    names: tuple[str, ...]
    """Host names and addresses it is good for."""


class FirstContact(Protocol):
    """Unverified connections, for fetching certificates only."""

    async def fetch_unverified_ca(self, address: str) -> str:
        """Fetch the PEM text at ``/.well-known/ct-ops/ca.pem``. May raise ``UnreachableError``."""

    async def fetch_presented_certificate(self, address: str) -> PresentedCertificate:
        """Look at the server's certificate. May raise ``UnreachableError``."""


@dataclass(frozen=True)
class RouteWishes:
    """What the configuration says about the server."""

    address: str | None
    ca_pem: str
    """Content of ``ca_cert_file``; empty: not configured."""

    tls_skip_verify: bool
    hint: ServerHint | None
    ca_is_installed: bool = False
    """``ca_cert_file`` is the one that the installer wrote."""


@dataclass(frozen=True)
class FetchPinned:
    """Plan: fetch the authority and compare it with the pin."""

    addresses: tuple[str, ...]
    pin: bytes


@dataclass(frozen=True)
class PinPresented:
    """Plan: believe the certificate that the server shows now."""

    addresses: tuple[str, ...]


def plan_route(
    wishes: RouteWishes, stored: StoredRoute, read_system_roots: Callable[[], str]
) -> Route | FetchPinned | PinPresented:
    """Decide where to go and whom to believe there.

    Args:
        wishes: the configuration.
        stored: what an earlier first contact left behind.
        read_system_roots: the host's own roots as PEM text.

    Raises:
        ConfigError: the configured authority is not the one the enrolment token names.
    """
    addresses = _choose_addresses(wishes, stored)
    if wishes.ca_pem and not wishes.tls_skip_verify:
        unused_hint = None if stored.trust_bundle_pem else wishes.hint
        if unused_hint and not _pinned_in(wishes.ca_pem, unused_hint.ca_sha256):
            raise ConfigError([_CA_DIFFERS])
        if wishes.ca_is_installed:
            return _installed_route(addresses, wishes.ca_pem, stored)
        # What the token says is written down, since the agent will have to do without the token.
        return Route(addresses, wishes.ca_pem, learnt=unused_hint is not None, source=AnchorSource.OPERATOR)
    if stored.trust_bundle_pem:
        source = AnchorSource.UNVERIFIED if wishes.tls_skip_verify else AnchorSource.LEARNT
        return Route(addresses, stored.trust_bundle_pem, stored.server_name, source=source)
    if wishes.hint:
        return FetchPinned(addresses, wishes.hint.ca_sha256)
    if wishes.tls_skip_verify:
        return PinPresented(addresses)
    return Route(addresses, read_system_roots())


def digest_of_beginning(ca_pem: str) -> str:
    """Return how the content of an installed ``ca_cert_file`` is remembered."""
    return hashlib.sha256(ca_pem.encode()).hexdigest()


def _installed_route(addresses: tuple[str, ...], ca_pem: str, stored: StoredRoute) -> Route:
    """Return the route of a host whose installer brought the authority along."""
    began_with = digest_of_beginning(ca_pem)
    source, bundle = AnchorSource.LEARNT, stored.trust_bundle_pem
    if bundle and stored.began_with == began_with:
        return Route(addresses, bundle, source=source, began_with=began_with)
    return Route(addresses, ca_pem, learnt=True, source=source, began_with=began_with)


class RouteFinder:
    """Carries a plan out."""

    def __init__(self, wishes: RouteWishes, first_contact: Callable[[], FirstContact]) -> None:
        self._wishes = wishes
        self._first_contact = first_contact

    async def find(self, stored: StoredRoute) -> Route:
        """Return the way to the server, after first contact where there is need.

        Raises:
            ConfigError: the configured authority contradicts the enrolment token.
            UnreachableError: no address answered.
            EnrolmentRefusedError: a server answered that is not the one the token was made for.
        """
        plan = plan_route(self._wishes, stored, read_system_roots)
        if not (self._wishes.address or stored.addresses or self._wishes.hint):
            _log.warning(
                "no server is configured (ingest.address) and no enrolment token names one: trying %s",
                DEFAULT_ADDRESS,
            )
        match plan:
            case FetchPinned(addresses, pin):
                return await self._try_each(addresses, lambda address: self._fetch_pinned(address, pin))
            case PinPresented(addresses):
                return await self._try_each(addresses, self._pin_presented)
            case Route() as route:
                return route

    async def _try_each(self, addresses: tuple[str, ...], find: "_FindAt") -> Route:
        failure = UnreachableError("no address is configured")
        for address in addresses:
            try:
                found = await find(address)
            except UnreachableError as error:
                failure = error
                continue
            others = tuple(other for other in addresses if other != address)
            return replace(found, addresses=(address, *others), learnt=True)
        raise failure

    async def _fetch_pinned(self, address: str, pin: bytes) -> Route:
        offered = await self._first_contact().fetch_unverified_ca(address)
        pinned = _pinned_in(offered, pin)
        if not pinned:
            raise EnrolmentRefusedError(_wrong_server(address), Refusal("", "pin_mismatch", ""))
        _log.info("%s showed the authority that the enrolment token pins; it is trusted from now on", address)
        return Route((address,), pinned, source=AnchorSource.LEARNT)

    async def _pin_presented(self, address: str) -> Route:
        presented = await self._first_contact().fetch_presented_certificate(address)
        _log.warning(
            "tls_skip_verify: the certificate of %s is believed UNVERIFIED, SHA-256 %s; compare it on the server, "
            "then remove tls_skip_verify",
            address,
            ", ".join(digest.hex() for digest in _digests(presented.pem)),
        )
        name = _name_to_expect(address, presented.names)
        return Route((address,), presented.pem, name, source=AnchorSource.UNVERIFIED)


class _FindAt(Protocol):
    async def __call__(self, address: str, /) -> Route: ...


def read_system_roots() -> str:
    """Return the roots this host believes; empty when there is no file, and the TLS library's own are used."""
    file = ssl.get_default_verify_paths().cafile
    return Path(file).read_text(encoding="utf-8", errors="replace") if file else ""


def _choose_addresses(wishes: RouteWishes, stored: StoredRoute) -> tuple[str, ...]:
    if wishes.address:
        return (wishes.address,)
    if stored.addresses:
        return stored.addresses
    return wishes.hint.addresses if wishes.hint else (DEFAULT_ADDRESS,)


def _pinned_in(pem: str, pin: bytes) -> str:
    """Return the one certificate whose digest is the pin, empty when there is none."""
    for label, der in parse_pem(pem):
        if label == "CERTIFICATE" and hashlib.sha256(der).digest() == pin:
            return to_pem(label, der)
    return ""


def _digests(pem: str) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(der).digest() for _, der in parse_pem(pem))


def _name_to_expect(address: str, names: tuple[str, ...]) -> str:
    host = address.rpartition(":")[0].strip("[]")
    return "" if host in names or not names else names[0]


def _wrong_server(address: str) -> str:
    return (
        f"the server at {address} is not the one this enrolment token was made for (its authority does not match the "
        "token's pin); check the address, or create a token on that very server"
    )


_CA_DIFFERS = Problem(
    "ingest.ca_cert_file",
    "this is not the authority that the enrolment token names; remove the key (the token is enough), "
    "or create a token on the server that this authority belongs to",
)

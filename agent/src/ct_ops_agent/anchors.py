"""The server CAs that this agent believes: learning new ones before the old one ends.

A server announces its CAs on the stream, whole: the old one and the next. They are believed only when

* this agent learnt its anchors itself, at first contact or so: what an operator configured on the host
  (``ca_cert_file``, ``tls_skip_verify``, the host's own roots) is kept to, and only reported on;
* the stream that brought them was verified by what is believed now, which gRPC has seen to, and they name at
  least one CA that is believed: whoever replaces everything at once is not the server that was enrolled with;
* each new one is a CA's certificate.

Nobody is locked out: a CA is dropped only after the server has shown, on a connection of its own, a certificate that
what remains vouches for. What is believed is on the disk before it is confirmed.

Left to others: the file (`identity.credentials`), the connection that proves (`transport.verified_look`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ct_ops_agent.control_plane import AnchorReport, AnchorSource, Route
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.keystore import parse_pem, to_pem

FEATURE = "anchors"
"""What ``features`` calls it."""

MOST = 8
"""No server has more: the old one, the next one, and a few that have not ended."""

_log = logging.getLogger(__name__)
_KEPT_TO = {
    AnchorSource.OPERATOR: "ingest.ca_cert_file names what is believed here",
    AnchorSource.HOST: "the host's own roots are believed here",
    AnchorSource.UNVERIFIED: "ingest.tls_skip_verify is set",
}

Prove = Callable[[Route], Awaitable[object]]
"""Looks whether a route's server can be believed with its roots; raises ``UnreachableError`` when not."""


async def take_for_granted(_route: Route) -> None:
    """Prove nothing: where there is no network."""


class StreamAnchors:
    """What is believed on one stream, and what the server was told of it."""

    def __init__(self, route: Route, prove: Prove) -> None:
        self._route = route
        self._prove = prove
        self._announced: tuple[bytes, ...] = ()
        self._told: AnchorReport | None = None

    def report(self) -> AnchorReport | None:
        """Return what the server is to be told; ``None``: it was told."""
        report = AnchorReport(self._route.source, self._reported())
        if report == self._told:
            return None
        self._told = report
        return report

    async def learn(self, announced: tuple[bytes, ...]) -> str | None:
        """Return the trust bundle (PEM) to believe from now on; ``None``: it stays as it is.

        Args:
            announced: the server's CAs, DER.
        """
        self._announced = tuple(map(_digest, announced))
        self._told = None  # also who keeps to what is configured says which of them it believes
        believed = _certificates(self._route.roots_pem)
        if set(believed) == set(announced):
            return None
        if problem := _problem(self._route, believed, announced):
            _log.warning("the server announces other server CAs, and they are not believed: %s", problem)
            return None
        self._route = replace(self._route, roots_pem=await self._provable(believed, announced))
        if set(_certificates(self._route.roots_pem)) == set(believed):
            return None
        return self._route.roots_pem

    def kept(self) -> None:
        """Say that what `learn` returned is on the disk."""
        _log.info(
            "server CAs believed from now on: %s",
            ", ".join(digest.hex()[:16] for digest in anchors_of(self._route.roots_pem)),
        )

    async def _provable(self, believed: tuple[bytes, ...], announced: tuple[bytes, ...]) -> str:
        dropped = [der for der in believed if der not in announced]
        roots_pem = _to_bundle(_in_order(believed, announced))
        if not dropped:
            return roots_pem
        try:
            await self._prove(replace(self._route, roots_pem=roots_pem))
        except UnreachableError as error:
            _log.warning(
                "an old server CA is kept, since the server is not believed without it yet: %s", error
            )
            return _to_bundle(_in_order(believed, (*believed, *announced)))
        return roots_pem

    def _reported(self) -> tuple[bytes, ...]:
        believed = anchors_of(self._route.roots_pem)
        if self._route.source is AnchorSource.LEARNT and len(believed) <= MOST:
            return believed
        return tuple(digest for digest in self._announced if digest in set(believed))


def anchors_of(roots_pem: str) -> tuple[bytes, ...]:
    """Return the SHA-256 of every certificate in a trust bundle."""
    return tuple(map(_digest, _certificates(roots_pem)))


def _problem(route: Route, believed: tuple[bytes, ...], announced: tuple[bytes, ...]) -> str:
    if route.source is not AnchorSource.LEARNT:
        return _KEPT_TO[route.source]
    if not 0 < len(announced) <= MOST:
        return f"there are {len(announced)} of them"
    if not set(believed) & set(announced):
        return "none of those that are believed now is among them"
    from ct_ops_agent.identity.certificates import is_authority  # noqa: PLC0415 - heavy, and rare

    if not all(is_authority(der) for der in announced if der not in believed):
        return "a new one is no certificate of a CA"
    return ""


def _in_order(believed: tuple[bytes, ...], wanted: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return what is wanted: first what is believed already, then of what is new as much as there is room for.

    gRPC takes the first CA with the right name and never a second one. A new one of an old one's name, which may not be
    valid yet, must not stand before the one that works.
    """
    stays = [der for der in believed if der in wanted]
    new = [der for der in dict.fromkeys(wanted) if der not in believed]
    return (*stays, *new[: max(0, MOST - len(stays))])


def _to_bundle(ders: tuple[bytes, ...]) -> str:
    return "".join(to_pem("CERTIFICATE", der) for der in dict.fromkeys(ders))


def _certificates(pem: str) -> tuple[bytes, ...]:
    return tuple(der for label, der in parse_pem(pem) if label == "CERTIFICATE")


def _digest(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()

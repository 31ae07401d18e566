"""Learning the server's next CA: what is believed, what is refused, and what the server is told."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ct_ops_agent.anchors import MOST, StreamAnchors, take_for_granted
from ct_ops_agent.control_plane import AnchorReport, AnchorSource, Route
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.keystore import parse_pem, to_pem
from fakes.conforming_server import make_authority, make_server_certificate

OLD, NEXT, OTHER = (
    next(der for _, der in parse_pem(make_authority(name).pem)) for name in ("Old", "Next", "Other")
)


def digest(der: bytes) -> bytes:
    """Return what a certificate is called in a report."""
    return hashlib.sha256(der).digest()


def bundle(*ders: bytes) -> str:
    """Return a trust bundle."""
    return "".join(to_pem("CERTIFICATE", der) for der in ders)


ROUTE = Route(("server:1",), bundle(OLD), source=AnchorSource.LEARNT)


async def never(_route: Route) -> None:
    """A server that cannot be believed without its old CA."""
    raise UnreachableError("its certificate is signed by the old one")


async def test_the_next_server_ca_is_believed_beside_the_old_one_and_confirmed() -> None:
    """What was announced is believed whole, and the next frame says so."""
    anchors = StreamAnchors(ROUTE, never)
    assert anchors.report() == AnchorReport(AnchorSource.LEARNT, (digest(OLD),))
    assert anchors.report() is None

    assert await anchors.learn((OLD, NEXT)) == bundle(OLD, NEXT)

    assert anchors.report() == AnchorReport(AnchorSource.LEARNT, (digest(OLD), digest(NEXT)))


async def test_the_old_one_is_dropped_once_the_server_is_believed_without_it() -> None:
    """A retired CA is forgotten, after a look at the server with what remains."""
    looked: list[str] = []

    async def look(route: Route) -> None:
        looked.append(route.roots_pem)

    anchors = StreamAnchors(replace(ROUTE, roots_pem=bundle(OLD, NEXT)), look)

    assert await anchors.learn((NEXT,)) == bundle(NEXT)
    assert looked == [bundle(NEXT)]


async def test_nobody_is_locked_out_by_an_announcement_that_comes_too_early() -> None:
    """While the server shows a certificate of the old CA, that one is believed."""
    anchors = StreamAnchors(replace(ROUTE, roots_pem=bundle(OLD, NEXT)), never)

    assert await anchors.learn((NEXT,)) is None
    report = anchors.report()
    assert report is not None
    assert set(report.believed) == {digest(OLD), digest(NEXT)}


async def test_a_new_one_never_stands_before_one_that_works() -> None:
    """GRPC takes the first of a name, also when that is not valid yet: what is believed keeps its place."""
    anchors = StreamAnchors(replace(ROUTE, roots_pem=bundle(OLD, NEXT)), never)

    assert await anchors.learn((OTHER, NEXT, OLD)) == bundle(OLD, NEXT, OTHER)


async def test_eight_announced_ones_push_out_none_that_the_server_is_believed_by() -> None:
    """There is room for eight: what is proven to work stays, and of the new ones the first are taken."""
    many = (
        NEXT,
        *(next(der for _, der in parse_pem(make_authority(f"New {n}").pem)) for n in range(MOST - 1)),
    )
    anchors = StreamAnchors(replace(ROUTE, roots_pem=bundle(OLD, NEXT)), never)

    assert await anchors.learn(many) == bundle(OLD, *many[: MOST - 1])

    report = anchors.report()
    assert report is not None
    assert len(report.believed) == MOST


@pytest.mark.parametrize("source", [AnchorSource.OPERATOR, AnchorSource.HOST, AnchorSource.UNVERIFIED])
async def test_what_an_operator_configured_is_kept_to_and_only_reported(source: AnchorSource) -> None:
    """A server cannot add to what somebody chose on the host; it learns which of its CAs are believed."""
    anchors = StreamAnchors(replace(ROUTE, source=source), take_for_granted)
    assert anchors.report() == AnchorReport(source, ())

    assert await anchors.learn((OLD, NEXT)) is None

    assert anchors.report() == AnchorReport(source, (digest(OLD),))


@pytest.mark.parametrize(
    "announced",
    [(), (NEXT, OTHER), (OLD, b"no certificate"), (OLD, *(bytes([n]) for n in range(MOST)))],
    ids=["nothing", "strangers only", "no certificate", "too many"],
)
async def test_a_hostile_announcement_plants_no_root(announced: tuple[bytes, ...]) -> None:
    """Whoever replaces everything at once, or sends what is no CA, changes nothing."""
    anchors = StreamAnchors(ROUTE, take_for_granted)

    assert await anchors.learn(announced) is None

    assert anchors.report() == AnchorReport(AnchorSource.LEARNT, (digest(OLD),))


async def test_a_leaf_that_is_announced_as_a_server_ca_is_not_believed() -> None:
    """The certificate of a server is none that may vouch for servers."""
    certificate, _ = make_server_certificate(make_authority("Old"), ("server",))
    leaf = certificate.public_bytes(Encoding.DER)
    assert await StreamAnchors(ROUTE, take_for_granted).learn((OLD, leaf)) is None

"""Which server, and whom to believe there: the table row by row."""

import hashlib
from dataclasses import dataclass, field, replace

import pytest

from ct_ops_agent.control_plane import AnchorSource, Route
from ct_ops_agent.errors import ConfigError, EnrolmentRefusedError, UnreachableError
from ct_ops_agent.identity.credentials import StoredRoute
from ct_ops_agent.identity.keystore import to_pem
from ct_ops_agent.route import (
    FetchPinned,
    PinPresented,
    PresentedCertificate,
    RouteFinder,
    RouteWishes,
    plan_route,
    read_system_roots,
)
from ct_ops_proto.enrolment_token import ServerHint

CA_DER = b"the authority of the token"
CA_PEM = to_pem("CERTIFICATE", CA_DER)
OTHER_PEM = to_pem("CERTIFICATE", b"somebody else")
HINT = ServerHint(hashlib.sha256(CA_DER).digest(), ("hinted:1", "hinted:2"))
STORED = StoredRoute(("stored:1",), "stored.name", "stored bundle")
NOTHING_STORED = StoredRoute()
NOTHING = RouteWishes(address=None, ca_pem="", tls_skip_verify=False, hint=None)
HINTED = RouteWishes(address=None, ca_pem="", tls_skip_verify=False, hint=HINT)


def plan(wishes: RouteWishes, stored: StoredRoute = NOTHING_STORED) -> Route | FetchPinned | PinPresented:
    return plan_route(wishes, stored, lambda: "system roots")


def test_without_any_wish_it_is_this_host_and_its_own_roots() -> None:
    """The default address of existing agents, and the roots that every program here believes."""
    assert Route(("localhost:9443",), "system roots") == plan(NOTHING)


def test_a_token_with_a_hint_says_where_to_go_and_what_to_compare() -> None:
    """With nothing but a token the hint's addresses and pin are used."""
    assert FetchPinned(("hinted:1", "hinted:2"), HINT.ca_sha256) == plan(HINTED)


def test_a_configured_address_wins_over_the_hint() -> None:
    """The pin stays, the address is the operator's."""
    wishes = RouteWishes(address="mine:1", ca_pem="", tls_skip_verify=False, hint=HINT)

    assert FetchPinned(("mine:1",), HINT.ca_sha256) == plan(wishes)


def test_a_stored_trust_bundle_ends_the_meaning_of_the_hint() -> None:
    """After first contact the data directory knows where and whom."""
    learnt = AnchorSource.LEARNT
    assert Route(("stored:1",), "stored bundle", "stored.name", source=learnt) == plan(HINTED, STORED)


def test_a_configured_authority_is_believed_instead() -> None:
    """ca_cert_file is the operator's word, also over a stored bundle."""
    wishes = RouteWishes(address="mine:1", ca_pem=OTHER_PEM, tls_skip_verify=False, hint=None)

    assert Route(("mine:1",), OTHER_PEM, source=AnchorSource.OPERATOR) == plan(wishes)
    assert Route(("mine:1",), OTHER_PEM, source=AnchorSource.OPERATOR) == plan(wishes, STORED)


def test_the_file_that_the_installer_brought_is_a_beginning_and_not_a_wish() -> None:
    """What was learnt from its server since then counts; who changes the file starts again from there."""
    brought = RouteWishes("mine:1", CA_PEM, tls_skip_verify=False, hint=None, ca_is_installed=True)
    first = plan(brought)
    assert isinstance(first, Route)
    assert (AnchorSource.LEARNT, True, CA_PEM) == (first.source, first.learnt, first.roots_pem)

    stored = StoredRoute(("mine:1",), "", "old and new", first.began_with)
    again = plan(brought, stored)
    assert isinstance(again, Route)
    assert (AnchorSource.LEARNT, False, "old and new") == (again.source, again.learnt, again.roots_pem)

    changed = plan(replace(brought, ca_pem=OTHER_PEM), stored)
    assert isinstance(changed, Route)
    assert (True, OTHER_PEM) == (changed.learnt, changed.roots_pem)


def test_a_configured_authority_has_to_agree_with_the_pin() -> None:
    """The same authority is fine, another one is a contradiction."""
    agreeing = RouteWishes(address=None, ca_pem=CA_PEM, tls_skip_verify=False, hint=HINT)
    differing = RouteWishes(address=None, ca_pem=OTHER_PEM, tls_skip_verify=False, hint=HINT)

    route = Route(HINT.addresses, CA_PEM, learnt=True, source=AnchorSource.OPERATOR)
    assert route == plan(agreeing)
    with pytest.raises(ConfigError, match="not the authority that the enrolment token names"):
        plan(differing)


def test_skipping_verification_pins_what_is_shown() -> None:
    """tls_skip_verify sets a configured authority aside, as existing agents do, but not a pin."""
    careless = RouteWishes(address="mine:1", ca_pem=CA_PEM, tls_skip_verify=True, hint=None)
    pinned = RouteWishes(address="mine:1", ca_pem="", tls_skip_verify=True, hint=HINT)

    assert PinPresented(("mine:1",)) == plan(careless)
    assert FetchPinned(("mine:1",), HINT.ca_sha256) == plan(pinned)


@dataclass
class Network:
    """First contact from memory: what each address offers."""

    authorities: dict[str, str] = field(default_factory=dict)
    presented: dict[str, PresentedCertificate] = field(default_factory=dict)

    async def fetch_unverified_ca(self, address: str) -> str:
        if address not in self.authorities:
            raise UnreachableError(f"{address} is silent")
        return self.authorities[address]

    async def fetch_presented_certificate(self, address: str) -> PresentedCertificate:
        return self.presented[address]


async def test_the_next_address_is_asked_when_one_is_silent() -> None:
    """The address that answered goes first from then on; only the pinned certificate is kept."""
    network = Network({"hinted:2": OTHER_PEM + CA_PEM})

    found = await RouteFinder(HINTED, lambda: network).find(StoredRoute())

    route = Route(("hinted:2", "hinted:1"), CA_PEM, learnt=True, source=AnchorSource.LEARNT)
    assert route == found


async def test_silence_everywhere_is_unreachable() -> None:
    """No address answered: the last failure is told."""
    with pytest.raises(UnreachableError, match="hinted:2 is silent"):
        await RouteFinder(HINTED, Network).find(StoredRoute())


@pytest.mark.parametrize(
    "offered", [OTHER_PEM, "", "<html>no certificate</html>", CA_PEM.replace("CERT", "CURT")]
)
async def test_an_authority_that_is_not_the_pinned_one_is_refused(offered: str) -> None:
    """Attack: whatever else an address offers, it is not believed."""
    with pytest.raises(EnrolmentRefusedError, match="is not the one this enrolment token was made for"):
        await RouteFinder(HINTED, lambda: Network({"hinted:1": offered})).find(StoredRoute())


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("mine.example",), ""), (("other.example", "third.example"), "other.example"), ((), "")],
)
async def test_a_pinned_certificate_may_carry_another_name(names: tuple[str, ...], expected: str) -> None:
    """What is pinned by tls_skip_verify is checked against a name it has."""
    wishes = RouteWishes(address="mine.example:1", ca_pem="", tls_skip_verify=True, hint=None)
    network = Network(presented={"mine.example:1": PresentedCertificate(OTHER_PEM, names)})

    found = await RouteFinder(wishes, lambda: network).find(StoredRoute())

    unverified = AnchorSource.UNVERIFIED
    assert Route(("mine.example:1",), OTHER_PEM, expected, learnt=True, source=unverified) == found


@pytest.mark.parametrize(
    ("wishes", "stored", "said"),
    [
        (RouteWishes(None, CA_PEM, tls_skip_verify=False, hint=None), StoredRoute(), True),
        (RouteWishes("mine.example:1", CA_PEM, tls_skip_verify=False, hint=None), StoredRoute(), False),
        (RouteWishes(None, CA_PEM, tls_skip_verify=False, hint=None), StoredRoute(("kept:1",)), False),
    ],
    ids=["by default", "configured", "kept"],
)
async def test_a_server_that_nobody_named_is_told_before_it_is_tried(
    wishes: RouteWishes,
    stored: StoredRoute,
    said: bool,  # noqa: FBT001  a column
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A token that lost its second half points nowhere: "connection refused" alone would not say so."""
    await RouteFinder(wishes, Network).find(stored)

    assert said is ("no server is configured" in caplog.text)


def test_the_hosts_own_roots_are_found() -> None:
    """The file that OpenSSL uses on this host is the one that is read."""
    roots = read_system_roots()

    assert not roots or "BEGIN CERTIFICATE" in roots

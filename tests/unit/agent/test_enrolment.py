"""What a reply to Register means, row by row; and how a key is proven before it."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_agent.control_plane import Challenge, Registration, RegistrationReply, Route
from ct_ops_agent.enrolment import Applicant, Enrolment, judge
from ct_ops_agent.errors import (
    AgentError,
    ApprovalPendingError,
    EnrolmentRefusedError,
    Refusal,
    UnreachableError,
)
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.carried_request import (
    keep_open_request,
    leave_reply,
    left_reply,
    load_open_requests,
)
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.keystore import keep_key_pair, load_key_pair
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_agent.secret import Secret
from ct_ops_proto.key_proof import signed_text
from fakes.conforming_server import issue_leaf, make_authority

KEYS = make_key_pair()
NOW = datetime(2026, 11, 24, tzinfo=UTC)
ENDS = NOW + timedelta(days=90)
LEAF = issue_leaf(make_authority("Agents"), "agent-1", Ed25519PublicKey.from_public_bytes(KEYS.public), ENDS)
ACTIVE = RegistrationReply(
    agent_id="agent-1",
    status="active",
    message="",
    agent_token=Secret("a.b.c"),
    leaf_pem=LEAF,
    agent_ca_pem="CA",
    leaf_not_after_unix=int(ENDS.timestamp()),
)
EARLIER = Identity("agent-1", Secret("old"), KEYS, "old leaf", "old CA", int(ENDS.timestamp()))


def verdict(reply: RegistrationReply, earlier: Identity | None = None) -> Identity:
    return judge(reply, KEYS, earlier, now_unix=NOW.timestamp())


def test_active_with_a_leaf_and_a_token_is_an_admission() -> None:
    """The leaf says itself when it ends."""
    begins = x509.load_pem_x509_certificate(LEAF.encode()).not_valid_before_utc
    dates = int(ENDS.timestamp()), int(begins.timestamp())

    assert Identity("agent-1", Secret("a.b.c"), KEYS, LEAF, "CA", *dates) == verdict(ACTIVE)


def test_active_without_a_leaf_goes_on_with_the_one_we_have() -> None:
    """A server that only renews the agent token does not take the leaf away."""
    found = verdict(replace(ACTIVE, leaf_pem=""), EARLIER)

    assert ("a.b.c", "old leaf") == (found.agent_token.reveal(), found.leaf_pem)


@pytest.mark.parametrize(
    "earlier",
    [
        None,
        replace(EARLIER, leaf_not_after_unix=int(NOW.timestamp()) - 1),
        replace(EARLIER, agent_id="agent-0"),
    ],
    ids=["none", "expired", "another agent's"],
)
def test_active_without_a_leaf_waits_for_one(earlier: Identity | None) -> None:
    """An old leaf is of use only if it is this agent's and has not expired."""
    with pytest.raises(ApprovalPendingError, match="its certificate is not signed yet"):
        verdict(replace(ACTIVE, leaf_pem=""), earlier)


def test_active_without_an_agent_token_waits_for_one() -> None:
    """A leaf alone opens no stream."""
    with pytest.raises(ApprovalPendingError):
        verdict(replace(ACTIVE, agent_token=Secret("")))


def test_pending_waits_under_the_servers_name_for_us() -> None:
    """The operator finds the agent by the id that we show."""
    with pytest.raises(ApprovalPendingError, match="waiting for approval as agent agent-1"):
        verdict(replace(ACTIVE, status="pending"))


def test_revoked_is_a_refusal() -> None:
    """Also when the reply holds a leaf."""
    with pytest.raises(EnrolmentRefusedError, match="was revoked on the server"):
        verdict(replace(ACTIVE, status="revoked"))


@pytest.mark.parametrize("status", ["offline", "", "ACTIVE"])
def test_a_status_of_no_meaning_is_a_refusal(status: str) -> None:
    """An existing server has a defect that says "offline"; existing agents exit, ours says so and waits."""
    with pytest.raises(EnrolmentRefusedError, match="does not know"):
        verdict(replace(ACTIVE, status=status))


@pytest.mark.parametrize("leaf", [make_authority("Stranger").pem, "garbage"], ids=["another key", "garbage"])
def test_a_leaf_that_cannot_be_ours_is_a_refusal(leaf: str) -> None:
    """Attack: nothing is stored that is not about our key."""
    with pytest.raises(EnrolmentRefusedError, match="a certificate that cannot be used"):
        verdict(replace(ACTIVE, leaf_pem=leaf))


# ---- the proof before it -------------------------------------------------------------------------

TOKEN_MISSING = EnrolmentRefusedError("no", Refusal("UNAUTHENTICATED", "token_missing", ""))
BUSY = UnreachableError("later")


@dataclass
class Desk:
    """A server's registration desk, from a script."""

    nonce: bytes | AgentError | None = b"n" * 32
    named_sha256: bytes = b""
    shown: list[bytes] = field(default_factory=lambda: [b"the server's certificate"])
    """The certificates that are seen, one after the other; the last one for ever."""

    looks: int = 0
    reply: RegistrationReply | AgentError = ACTIVE
    asked: list[Registration] = field(default_factory=list)

    @asynccontextmanager
    async def connect(self, _route: Route, _identity: Identity | None) -> AsyncIterator["Desk"]:
        yield self

    async def challenge(self, _public_key_pem: str) -> Challenge | None:
        if isinstance(self.nonce, AgentError):
            raise self.nonce
        return None if self.nonce is None else Challenge(self.nonce, self.named_sha256)

    async def server_certificate(self) -> bytes:
        self.looks += 1
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]

    async def register(self, registration: Registration) -> RegistrationReply:
        self.asked.append(registration)
        if isinstance(self.reply, AgentError):
            raise self.reply
        return self.reply

    def enrolment(self, folder: Path) -> Enrolment:
        """Return the enrolment of a host in whose data directory `KEYS` are."""
        keep_key_pair(folder, KEYS)
        facts = HostFacts("host", "linux", "amd64", "Debian", "boot")
        return Enrolment(
            directory=folder,
            store=CredentialStore(folder),
            connect=self.connect,  # type: ignore[arg-type]  # registers, and does nothing else
            applicant=Applicant(Secret("tok"), "1.0", facts, ()),
            wall=NOW.timestamp,
        )


ROUTE = Route(("server:1",), make_authority("Server").pem)


@pytest.mark.parametrize("nonce", [None, BUSY, TOKEN_MISSING], ids=["not offered", "busy", "refused"])
async def test_a_challenge_that_fails_never_keeps_from_register(
    tmp_path: Path, nonce: bytes | AgentError | None
) -> None:
    """The leaf of the connection or the enrolment token may do without it."""
    desk = Desk(nonce)
    await desk.enrolment(tmp_path).enrol(ROUTE)

    assert [None] == [registration.proof for registration in desk.asked]


SEVERAL = replace(ROUTE, roots_pem=ROUTE.roots_pem + make_authority("Other").pem)
SYSTEM = replace(ROUTE, roots_pem="")


def is_proven_to(certificate: bytes, registration: Registration) -> bool:
    """Return whether a registration carries a proof of `KEYS` for the server with this certificate."""
    proof = registration.proof
    assert proof is not None
    text = signed_text(nonce=proof.nonce, server_certificate_der=certificate, csr_der=registration.csr_der)
    try:
        Ed25519PublicKey.from_public_bytes(KEYS.public).verify(proof.signature, text)
    except InvalidSignature:
        return False
    return b"n" * 32 == proof.nonce


@pytest.mark.parametrize("route", [ROUTE, SEVERAL, SYSTEM], ids=["one root", "several", "the system's"])
async def test_a_key_that_was_here_before_is_proven(tmp_path: Path, route: Route) -> None:
    """By the server's nonce and for the certificate that it shows, whatever roots are believed."""
    desk = Desk()
    await desk.enrolment(tmp_path).enrol(route)

    assert is_proven_to(b"the server's certificate", desk.asked[0])


async def test_of_several_servers_behind_one_name_the_key_is_proven_to_the_one_that_asks(
    tmp_path: Path,
) -> None:
    """A look may find another one than the conversation; then this agent looks again."""
    desk = Desk(named_sha256=hashlib.sha256(b"second").digest(), shown=[b"first", b"second", b"first"])
    await desk.enrolment(tmp_path).enrol(ROUTE)

    assert is_proven_to(b"second", desk.asked[0])
    assert 2 == desk.looks


async def test_attack_a_challenge_of_another_server_is_not_signed(tmp_path: Path) -> None:
    """Who relays a challenge shows a certificate of his own; the leaf or the token may do without a proof."""
    desk = Desk(named_sha256=hashlib.sha256(b"of another server").digest())
    await desk.enrolment(tmp_path).enrol(ROUTE)

    assert [None] == [registration.proof for registration in desk.asked]
    assert desk.looks <= 5


async def test_attack_a_relayed_challenge_without_its_name_is_signed_for_the_relay_only(
    tmp_path: Path,
) -> None:
    """What the challenger says about itself only ever makes this agent look again: it signs what it saw."""
    desk = Desk(named_sha256=hashlib.sha256(b"the relay's").digest(), shown=[b"the relay's"])
    await desk.enrolment(tmp_path).enrol(ROUTE)

    assert is_proven_to(b"the relay's", desk.asked[0])
    assert not is_proven_to(b"of another server", desk.asked[0])


async def test_a_next_key_whose_challenge_is_another_servers_is_not_dropped(tmp_path: Path) -> None:
    """Which key the server holds is not known then."""
    desk = Desk(named_sha256=hashlib.sha256(b"of another server").digest())
    enrolment = desk.enrolment(tmp_path)
    KeyRotation(tmp_path).keep_next(make_key_pair())
    with pytest.raises(UnreachableError, match="another certificate"):
        await enrolment.enrol(ROUTE)

    assert KeyRotation(tmp_path).is_under_way


@pytest.mark.parametrize("nonce", [None, BUSY], ids=["not offered", "busy"])
async def test_a_next_key_that_could_not_be_proven_is_not_dropped(
    tmp_path: Path, nonce: bytes | AgentError | None
) -> None:
    """An unproven key is refused in the same words as an unknown one, and the server may hold it."""
    enrolment = Desk(nonce).enrolment(tmp_path)
    KeyRotation(tmp_path).keep_next(make_key_pair())
    if isinstance(nonce, AgentError):
        with pytest.raises(UnreachableError):
            await enrolment.enrol(ROUTE)
    else:
        await enrolment.enrol(ROUTE)

    assert KeyRotation(tmp_path).is_under_way


async def test_a_next_key_that_was_proven_and_is_not_known_is_dropped(tmp_path: Path) -> None:
    """No enrolment token goes with it; then the old key is asked about."""
    desk = Desk(reply=TOKEN_MISSING)
    enrolment = desk.enrolment(tmp_path)
    KeyRotation(tmp_path).keep_next(make_key_pair())
    with pytest.raises(EnrolmentRefusedError):
        await enrolment.enrol(ROUTE)

    assert ["", "tok"] == [registration.enrolment_token.reveal() for registration in desk.asked]
    assert not KeyRotation(tmp_path).is_under_way
    assert KEYS == load_key_pair(tmp_path)


@pytest.mark.parametrize(("ago_s", "is_kept"), [(0, True), (179, True), (181, False), (-5, False)])
async def test_a_next_key_that_the_server_may_still_hear_of_is_not_dropped(
    tmp_path: Path,
    ago_s: float,
    is_kept: bool,  # noqa: FBT001  a column
) -> None:
    """The question is on its way over a connection that is lost on this side only; then the answer would name no key of ours."""
    enrolment = Desk(reply=TOKEN_MISSING).enrolment(tmp_path)
    rotation = KeyRotation(tmp_path)
    rotation.request()
    rotation.keep_next(make_key_pair())
    rotation.note_asked(NOW.timestamp() - ago_s)
    with pytest.raises(EnrolmentRefusedError):
        await enrolment.enrol(ROUTE)

    assert (is_kept, is_kept) == (rotation.is_under_way, rotation.is_requested)


async def test_attack_a_reply_that_is_carried_here_after_an_enrolment_over_the_network_is_not_awaited(
    tmp_path: Path,
) -> None:
    """It would set back what this host was given since: also to an agent that was deleted meanwhile."""
    enrolment = Desk().enrolment(tmp_path)
    keep_open_request(tmp_path, KEYS.key_id, "ab" * 16)
    leave_reply(tmp_path, "a reply")
    await enrolment.enrol(ROUTE)

    assert () == load_open_requests(tmp_path).ids
    assert left_reply(tmp_path) is None


async def test_a_host_that_waits_for_an_approval_still_takes_a_reply(tmp_path: Path) -> None:
    """It was given nothing yet, and the way may close again."""
    enrolment = Desk(reply=replace(ACTIVE, status="pending")).enrolment(tmp_path)
    keep_open_request(tmp_path, KEYS.key_id, "ab" * 16)
    with pytest.raises(ApprovalPendingError):
        await enrolment.enrol(ROUTE)

    assert ("ab" * 16,) == load_open_requests(tmp_path).ids

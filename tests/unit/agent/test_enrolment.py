"""What a reply to Register means: the table row by row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_agent.control_plane import RegistrationReply
from ct_ops_agent.enrolment import judge
from ct_ops_agent.errors import ApprovalPendingError, EnrolmentRefusedError
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.secret import Secret
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

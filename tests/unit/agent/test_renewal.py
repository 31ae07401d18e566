"""What is due when, what is asked for, and what becomes of the answer."""

import base64
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_agent.control_plane import RenewalAsk, Renewed
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.keystore import KeyPair, keep_key_pair, load_key_pair
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_agent.renewal import Renewal, UnusableRenewalError, leaf_is_due, token_is_due, token_life
from ct_ops_agent.secret import Secret
from ct_ops_proto.key_proof import rotation_text
from fakes.conforming_server import issue_leaf, make_authority

KEYS = make_key_pair()
AUTHORITY = make_authority("Agents")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
START = NOW.timestamp()
DAY = 86_400.0


def leaf_for(keys: KeyPair, days: int = 90) -> str:
    ends = NOW + timedelta(days=days)
    return issue_leaf(AUTHORITY, "agent-1", Ed25519PublicKey.from_public_bytes(keys.public), ends)


def token(issued: float, expires: float) -> Secret:
    claims = json.dumps({"sub": "agent-1", "iat": issued, "exp": expires}).encode()
    return Secret("e30." + base64.urlsafe_b64encode(claims).decode().rstrip("=") + ".x")


IDENTITY = Identity(
    agent_id="agent-1",
    agent_token=token(START, START + DAY),
    keys=KEYS,
    leaf_pem=leaf_for(KEYS),
    agent_ca_pem="CA",
    leaf_not_after_unix=int(START + 90 * DAY),
    leaf_not_before_unix=int(START),
)


@dataclass
class Desk:
    """A renewal with its files and its clock."""

    directory: Path
    clock: list[float]
    renewal: Renewal
    rotation: KeyRotation

    def ask(self, identity: Identity = IDENTITY) -> RenewalAsk | None:
        return self.renewal.ask(identity)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    keep_key_pair(tmp_path, KEYS)
    clock, rotation = [START], KeyRotation(tmp_path)
    renewal = Renewal(store=CredentialStore(tmp_path), rotation=rotation, wall=lambda: clock[0], jitter=0.0)
    return Desk(tmp_path, clock, renewal, rotation)


@pytest.mark.parametrize(
    ("day", "jitter", "due"),
    [(44.9, 0.0, False), (45.1, 0.0, True), (53.9, 1.0, False), (54.1, 1.0, True), (91, 0.5, True)],
)
def test_a_leaf_is_due_at_half_its_life_plus_this_agents_share_of_a_tenth(
    day: float,
    jitter: float,
    due: bool,  # noqa: FBT001  a column
) -> None:
    """A fleet that was installed in one night does not renew in one night."""
    assert due is leaf_is_due(IDENTITY, START + day * DAY, jitter=jitter)


def test_a_leaf_without_a_known_beginning_counts_as_one_of_ninety_days() -> None:
    """An existing agent wrote down only the end, or nothing: then nothing is due."""
    inherited = replace(IDENTITY, leaf_not_before_unix=0)
    unknown = replace(inherited, leaf_not_after_unix=0)

    assert [False, True] == [leaf_is_due(inherited, START + day * DAY, jitter=0.0) for day in (44.9, 45.1)]
    assert not leaf_is_due(unknown, START + 1000 * DAY, jitter=0.0)


@pytest.mark.parametrize(("hour", "due"), [(15.9, False), (16.1, True), (30, True)])
def test_a_token_is_due_when_a_third_of_its_life_is_left(hour: float, due: bool) -> None:  # noqa: FBT001  a column
    """Also when it has expired already."""
    assert due is token_is_due(IDENTITY.agent_token, START + hour * 3600)


@pytest.mark.parametrize("text", ["", "opaque", "a.b.c", "e30.e30.x", "e30.bnVsbA.x", "e30.W10.x"])
def test_a_token_that_says_nothing_about_itself_is_never_due(text: str) -> None:
    """Whatever another server hands out."""
    assert token_life(Secret(text)) is None
    assert not token_is_due(Secret(text), START)


def test_nothing_is_asked_for_while_nothing_is_due(desk: Desk) -> None:
    """A heartbeat is a heartbeat."""
    assert desk.ask() is None


def test_a_due_token_is_asked_for_alone_and_a_due_leaf_brings_one_along(desk: Desk) -> None:
    """A server that refuses, or does not answer, is not asked at every heartbeat."""
    desk.clock[0] = START + 16.5 * 3600
    first, second = desk.ask(), desk.ask()
    desk.clock[0] = START + 46 * DAY
    third = desk.ask()

    assert (RenewalAsk(b""), None) == (first, second)
    assert third is not None
    request = x509.load_der_x509_csr(third.csr_der)
    assert request.is_signature_valid
    assert third.proof is None


def test_a_leaf_is_asked_for_when_the_server_hurries_and_then_no_more(desk: Desk) -> None:
    """However long it lasts; the new one ends the hurry."""
    desk.renewal.hurry()
    desk.renewal.hurry()
    ask = desk.ask()
    assert ask is not None
    assert ask.csr_der
    now = desk.renewal.take(IDENTITY, Renewed(token(START, START + DAY), leaf_for(KEYS), 0, "CA"))
    desk.clock[0] += 3600
    assert (
        desk.ask(replace(now, leaf_not_before_unix=int(START), leaf_not_after_unix=int(START + 90 * DAY)))
        is None
    )


def asked_at(desk: Desk, *, hours: float) -> list[int]:
    """Let a heartbeat be due every 30 seconds and nothing be answered; return when something was asked for."""
    begin, seconds = desk.clock[0], list[int]()
    for passed in range(0, int(hours * 3600), 30):
        desk.clock[0] = begin + passed
        if desk.ask() is not None:
            seconds.append(passed)
    return seconds


def test_what_is_not_answered_is_asked_for_again_after_a_minute_then_less_and_less_often(desk: Desk) -> None:
    """Once an hour at the least: a lost reply costs a minute, a server that refuses is left in peace."""
    desk.clock[0] = START + 46 * DAY

    assert [0, 60, 180, 420, 900, 1860, 3780, 7380, 10_980] == asked_at(desk, hours=4)


def test_an_unanswered_rotation_is_repeated_like_everything_else(desk: Desk) -> None:
    """With the same next key: `identity rotate-key` waits two minutes for it."""
    desk.rotation.request()
    attempts = asked_at(desk, hours=0.5)
    following = desk.rotation.next_key()

    assert [0, 60, 180, 420, 900] == attempts
    assert following == desk.rotation.next_key()


def test_an_answer_ends_the_waiting(desk: Desk) -> None:
    """What is due next is asked for at once, and its first repetition comes after a minute again."""
    desk.clock[0] = START + 46 * DAY
    asked_at(desk, hours=2)
    desk.renewal.take(IDENTITY, Renewed(Secret("a.b.c"), leaf_for(KEYS)))

    assert [0, 60, 180] == asked_at(desk, hours=0.1)


def test_a_rotation_that_somebody_requests_does_not_wait_behind_a_leaf(desk: Desk) -> None:
    """Nor behind an earlier request that was taken back."""
    desk.clock[0] = START + 46 * DAY
    asked_at(desk, hours=2)
    for _ in range(2):
        desk.rotation.request()
        first, second = desk.ask(), desk.ask()
        desk.rotation.drop()
        (desk.directory / "rotate_key.request").unlink(missing_ok=True)
        desk.ask()

        assert first is not None
        assert first.proof is not None
        assert second is None


def test_a_clock_that_went_back_does_not_silence_the_agent(desk: Desk) -> None:
    """A year ahead by mistake, then set right."""
    desk.clock[0] = START + 365 * DAY
    assert desk.ask() is not None
    desk.clock[0] = START + 46 * DAY

    assert desk.ask() is not None


def test_a_new_token_is_kept(desk: Desk) -> None:
    """On the disk too: a restart finds it."""
    new = token(START, START + 2 * DAY)
    now = desk.renewal.take(IDENTITY, Renewed(new))
    stored = CredentialStore(desk.directory).load(KEYS).identity

    assert new.reveal() == now.agent_token.reveal()
    assert stored is not None
    assert new.reveal() == stored.agent_token.reveal()
    assert IDENTITY.leaf_pem == now.leaf_pem


def test_a_new_leaf_is_kept_with_its_own_dates(desk: Desk) -> None:
    """What the certificate says counts, not what is said beside it."""
    leaf = leaf_for(KEYS, days=180)
    now = desk.renewal.take(IDENTITY, Renewed(Secret("a.b.c"), leaf, 5, "new CA"))

    assert (leaf, "new CA", "a.b.c") == (now.leaf_pem, now.agent_ca_pem, now.agent_token.reveal())
    assert int(START + 180 * DAY) == now.leaf_not_after_unix
    assert now == CredentialStore(desk.directory).load(KEYS).identity


def test_attack_a_leaf_for_another_key_is_not_used(desk: Desk) -> None:
    """Nor is garbage; what was there stays."""
    for leaf in (leaf_for(make_key_pair()), "garbage"):
        with pytest.raises(UnusableRenewalError):
            desk.renewal.take(IDENTITY, Renewed(Secret("a.b.c"), leaf))

    assert CredentialStore(desk.directory).load(KEYS).identity is None


def test_a_rotation_is_asked_for_with_a_proof_by_the_new_key(desk: Desk) -> None:
    """The new key is on the disk before anybody hears of it, and signs that it follows this leaf."""
    desk.rotation.request()
    asked = desk.ask()
    following = desk.rotation.next_key()

    assert asked is not None
    assert asked.proof is not None
    assert following is not None
    leaf = x509.load_pem_x509_certificate(IDENTITY.leaf_pem.encode())
    text = rotation_text(leaf_der=leaf.public_bytes(serialization.Encoding.DER), csr_der=asked.csr_der)
    Ed25519PublicKey.from_public_bytes(following.public).verify(asked.proof.signature, text)
    assert leaf.fingerprint(hashes.SHA256()) == asked.proof.nonce
    assert following.public != KEYS.public


def test_the_new_key_is_the_agents_when_its_leaf_is_there(desk: Desk) -> None:
    """On the disk as well, and the request is done."""
    desk.rotation.request()
    desk.ask()
    following = desk.rotation.next_key()
    assert following is not None
    now = desk.renewal.take(IDENTITY, Renewed(Secret("a.b.c"), leaf_for(following), 5))

    assert following.public == now.keys.public
    assert following == load_key_pair(desk.directory)
    assert now == CredentialStore(desk.directory).load(following).identity
    assert not desk.rotation.is_requested
    assert not desk.rotation.is_under_way


def test_a_rotation_waits_while_the_server_is_an_existing_one(desk: Desk) -> None:
    """It could never be settled there: nothing is begun."""
    desk.rotation.request()

    assert desk.renewal.csr_if_leaf_is_due(IDENTITY) is None
    assert not desk.rotation.is_under_way
    assert desk.rotation.is_requested


def test_an_existing_server_is_asked_for_a_leaf_by_its_csr(desk: Desk) -> None:
    """Half-way through the leaf's life, and not again at once."""
    before = desk.renewal.csr_if_leaf_is_due(IDENTITY)
    desk.clock[0] = START + 46 * DAY
    due, again = (desk.renewal.csr_if_leaf_is_due(IDENTITY) for _ in range(2))

    assert (None, None) == (before, again)
    assert due is not None
    assert x509.load_der_x509_csr(due).is_signature_valid

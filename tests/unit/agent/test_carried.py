"""What a host makes of a carried reply: only its own, only now, only of the server that it knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_agent.carried import (
    CarriedAdmission,
    Vouchers,
    ca_digests,
    install_left,
    judge_reply,
    make_request,
    parse_pin,
)
from ct_ops_agent.control_plane import Tag
from ct_ops_agent.errors import ConfigError, EnrolmentRefusedError
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.carried_request import (
    OpenRequests,
    keep_open_request,
    leave_reply,
    left_reply,
    load_open_requests,
)
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.credentials import CredentialStore
from ct_ops_agent.identity.keystore import KeyPair, keep_key_pair
from ct_ops_proto.carried_enrolment import CarriedReply, reply_text
from fakes.conforming_server import issue_leaf, make_authority

KEYS, OTHER_KEYS = make_key_pair(), make_key_pair()
NOW = datetime(2026, 11, 24, tzinfo=UTC)
AGENTS, SERVER, ROGUE = (make_authority(name) for name in ("Agents", "Server", "Rogue"))
ID = "ab" * 16


def leaf_for(keys: KeyPair) -> str:
    return issue_leaf(
        AGENTS, "agent-1", Ed25519PublicKey.from_public_bytes(keys.public), NOW + timedelta(days=90)
    )


def digest_of(pem: str) -> str:
    return ca_digests(pem)[0].hex()


REPLY = CarriedReply(
    request_id=ID,
    agent_id="agent-1",
    hostname="island-1",
    made_at_unix=int(NOW.timestamp()),
    leaf_pem=leaf_for(KEYS),
    agent_ca_pem=AGENTS.pem,
    agent_token="a.b.c",
    server_ca_pem=SERVER.pem,
    addresses=("ops.example.com:9443",),
    installation_id="i",
)
WAITING = OpenRequests(KEYS.key_id, ("00" * 16, ID))
PIN = Vouchers(pin=digest_of(SERVER.pem))


def judged(
    reply: CarriedReply = REPLY,
    vouchers: Vouchers = PIN,
    *,
    keys: KeyPair | None = KEYS,
    waiting: OpenRequests = WAITING,
    now: datetime = NOW,
) -> CarriedAdmission:
    return judge_reply(reply, keys, waiting, vouchers, now_unix=now.timestamp())


def reason(reply: CarriedReply = REPLY, vouchers: Vouchers = PIN, **values: object) -> str:
    """Return why a reply is refused."""
    with pytest.raises(EnrolmentRefusedError) as refused:
        judged(reply, vouchers, **values)  # type: ignore[arg-type]  # handed on
    return refused.value.refusal.reason


def test_the_reply_to_a_request_of_this_host_is_an_admission() -> None:
    """Identity and route, as an online enrolment gives them."""
    admission = judged()

    assert ("agent-1", "a.b.c") == (admission.identity.agent_id, admission.identity.agent_token.reveal())
    assert int((NOW + timedelta(days=90)).timestamp()) == admission.identity.leaf_not_after_unix
    assert (("ops.example.com:9443",), SERVER.pem) == (
        admission.route.addresses,
        admission.route.trust_bundle_pem,
    )
    assert admission.is_vouched_for


def test_attack_a_reply_to_another_request_is_refused() -> None:
    """Also when its leaf is for our key: it is from another time."""
    assert "reply_not_awaited" == reason(replace(REPLY, request_id="cd" * 16))


def test_attack_a_reply_that_was_installed_already_is_refused() -> None:
    """No request waits any more."""
    assert "reply_not_awaited" == reason(waiting=OpenRequests("", ()))


def test_attack_replies_swapped_between_two_hosts_are_refused() -> None:
    """Even under our request's id, the leaf is about the other host's key."""
    assert "reply_for_another_key" == reason(replace(REPLY, leaf_pem=leaf_for(OTHER_KEYS)))


def test_attack_a_reply_from_before_the_key_was_rotated_is_refused() -> None:
    """The request was made with a key that is this host's no more."""
    assert "reply_for_another_key" == reason(keys=OTHER_KEYS)


def test_attack_a_reply_that_names_another_agent_than_its_certificate_is_refused() -> None:
    """The operator would look for that other one; and whoever edits the stick could have it be any."""
    assert "reply_altered" == reason(replace(REPLY, agent_id="agent-2"))


def test_a_host_without_a_key_has_asked_for_nothing() -> None:
    """Its data directory was emptied after the request."""
    assert "reply_not_awaited" == reason(keys=None)


def test_a_reply_that_took_three_months_is_refused_with_both_times() -> None:
    """Which of them is wrong is for people."""
    with pytest.raises(EnrolmentRefusedError, match=r"2027-02-22 00:00 UTC.*2027-03-24 00:00 UTC"):
        judged(now=NOW + timedelta(days=120))

    assert "reply_expired" == reason(now=NOW + timedelta(days=120))


def test_a_leaf_of_tomorrow_is_installed_all_the_same() -> None:
    """The server judges it by its own clock; this host's may be hours behind."""
    assert judged(now=NOW - timedelta(hours=9)).is_vouched_for


def test_what_is_no_certificate_is_refused() -> None:
    """A leaf that was damaged on the stick."""
    assert "reply_for_another_key" == reason(replace(REPLY, leaf_pem="-----BEGIN CERTIFICATE-----"))


def test_attack_the_reply_of_a_rogue_server_is_refused_by_the_pin() -> None:
    """Its leaf is for our key, which is in every request; its authority is another."""
    assert "reply_of_another_server" == reason(replace(REPLY, server_ca_pem=ROGUE.pem))


def test_attack_an_authority_added_to_the_reply_is_not_believed() -> None:
    """Of several, only the one that the pin names."""
    admission = judged(replace(REPLY, server_ca_pem=ROGUE.pem + SERVER.pem))

    assert SERVER.pem == admission.route.trust_bundle_pem


@pytest.mark.parametrize(
    "vouchers",
    [
        Vouchers(pin=digest_of(SERVER.pem)[:32]),
        Vouchers(hint=bytes.fromhex(digest_of(SERVER.pem))),
        Vouchers(configured_pem=ROGUE.pem + SERVER.pem),
        Vouchers(known_pem=SERVER.pem),
    ],
    ids=["half a pin", "token", "configured", "earlier"],
)
def test_the_server_is_measured_by_what_is_known(vouchers: Vouchers) -> None:
    """Each of them is enough, and each of them refuses a rogue."""
    assert judged(vouchers=vouchers).is_vouched_for
    assert "reply_of_another_server" == reason(
        replace(REPLY, server_ca_pem=make_authority("Third").pem), vouchers
    )


def test_a_typed_pin_goes_before_what_was_known_earlier() -> None:
    """An operator who moves a host to another server says so."""
    assert judged(vouchers=replace(PIN, known_pem=ROGUE.pem)).is_vouched_for
    assert "reply_of_another_server" == reason(vouchers=Vouchers(known_pem=ROGUE.pem))


def test_a_configured_authority_has_to_agree_with_the_pin() -> None:
    """It is all that the agent believes when it runs: with another one it would never connect."""
    assert judged(vouchers=replace(PIN, configured_pem=SERVER.pem)).is_vouched_for
    assert "reply_of_another_server" == reason(vouchers=replace(PIN, configured_pem=ROGUE.pem))


def test_without_a_voucher_the_eye_has_to_compare() -> None:
    """It is installed, and said."""
    admission = judged(vouchers=Vouchers())

    assert (SERVER.pem, False) == (admission.route.trust_bundle_pem, admission.is_vouched_for)


@pytest.mark.parametrize("text", ["", "abc", "0" * 31, "0" * 65, "g" * 64, "0x" + "0" * 62])
def test_what_is_no_pin_is_said(text: str) -> None:
    """Too short a one would be found by trying."""
    with pytest.raises(ConfigError, match="--pin"):
        parse_pin(text)


def test_a_pin_is_typed_as_it_was_read_out() -> None:
    """Groups, colons and capitals make no difference."""
    digest = digest_of(SERVER.pem)
    spoken = " ".join(digest[at : at + 4] for at in range(0, 64, 4)).upper()

    assert digest == parse_pin(spoken) == parse_pin(":".join(digest[at : at + 2] for at in range(0, 64, 2)))


FACTS = HostFacts("island-1", "linux", "amd64", "Debian 12", "boot", "cd" * 32)


def test_a_request_says_what_a_register_says_and_is_signed() -> None:
    """By the key in it, over all of it."""
    request = make_request(
        KEYS,
        FACTS,
        ("192.0.2.7",),
        (Tag("rack", "7"),),
        agent_version="1.0",
        request_id=bytes(16),
        now_unix=NOW.timestamp(),
    )
    Ed25519PublicKey.from_public_bytes(KEYS.public).verify(request.signature, request.signed_text())

    assert ("island-1", "cd" * 32, ("192.0.2.7",)) == (
        request.hostname,
        request.machine_id,
        request.ip_addresses,
    )
    assert KEYS.public_pem == request.public_key_pem


def test_a_hostname_of_odd_bytes_can_be_carried() -> None:
    """A name that is no UTF-8 does not keep a host out."""
    request = make_request(
        KEYS,
        replace(FACTS, hostname="caf\udce9"),
        (),
        (),
        agent_version="1.0",
        request_id=bytes(16),
        now_unix=0,
    )

    assert "caf?" == request.hostname


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A data directory with a key whose request was carried away."""
    keep_key_pair(tmp_path, KEYS)
    keep_open_request(tmp_path, KEYS.key_id, ID)
    return tmp_path


def test_a_reply_that_was_left_is_installed_once(host: Path) -> None:
    """Identity, route and all; neither the reply nor the request stays."""
    leave_reply(host, reply_text(REPLY))
    store, text = CredentialStore(host), left_reply(host)
    identity = install_left(host, store, text or "", now_unix=NOW.timestamp())
    stored = store.load(KEYS)

    assert stored.identity == identity
    assert (("ops.example.com:9443",), SERVER.pem) == (stored.route.addresses, stored.route.trust_bundle_pem)
    assert (None, ()) == (left_reply(host), load_open_requests(host).ids)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        reply_text(replace(REPLY, leaf_pem=leaf_for(OTHER_KEYS))),
        reply_text(replace(REPLY, request_id="0" * 32)),
    ],
    ids=["empty", "garbage", "of another host", "of another request"],
)
def test_attack_what_was_left_and_is_no_reply_for_this_host_is_removed(host: Path, text: str) -> None:
    """It is said once, and not again at every try."""
    leave_reply(host, text)
    store = CredentialStore(host)

    assert install_left(host, store, text, now_unix=NOW.timestamp()) is None
    assert left_reply(host) is None
    assert (None, "") == (store.load(KEYS).identity, store.load(KEYS).agent_id)

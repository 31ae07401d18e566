"""The life of a server CA: prepared, announced, activated with a certificate by the old one, retired."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.root import RootName, load_or_create_root
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_ca import (
    ACTIVATE_BELOW,
    PREPARE_BELOW,
    STATE_FILE,
    ServerCas,
    StepError,
    activate,
    open_server_cas,
    prepare,
    retire,
)
from ct_ops_server.authority.server_certificate import ServerTls, load_or_create_tls

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("server.example",)
DAY = timedelta(days=1)


@pytest.fixture
def serve(data_dir: Path, secret: SealingSecret) -> Callable[[datetime], ServerTls]:
    """Load what is served at a moment."""
    return lambda now: load_or_create_tls(data_dir, secret, names=NAMES, now=now)


def end_of(tls: ServerTls) -> datetime:
    """Return when the CA that signs ends."""
    return x509.load_der_x509_certificate(tls.ca_der).not_valid_after_utc


def believed(tls: ServerTls, roots: tuple[bytes, ...], now: datetime) -> bool:
    """Tell whether a client with these roots believes the chain that is served, by a strict verifier."""
    leaf, *others = x509.load_pem_x509_certificates(tls.chain_pem.encode())
    store = Store([x509.load_der_x509_certificate(der) for der in roots])
    verifier = PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(NAMES[0]))
    try:
        verifier.verify(leaf, others)
    except x509.verification.VerificationError:
        return False
    return True


def test_the_next_server_ca_is_announced_400_days_before_the_end_and_signs_nothing_yet(
    serve: Callable[[datetime], ServerTls],
) -> None:
    """Agents have more than a year to learn it."""
    first = serve(START)
    early = serve(end_of(first) - PREPARE_BELOW - DAY)
    later = serve(end_of(first) - PREPARE_BELOW + DAY)

    assert early.anchors == first.anchors == (first.ca_der,)
    assert later.ca_der == first.ca_der
    assert len(later.anchors) == 2
    assert later.made
    assert believed(later, first.anchors, end_of(first) - PREPARE_BELOW + DAY)


def test_time_alone_switches_and_whoever_knows_only_the_old_one_goes_on_until_its_end(
    serve: Callable[[datetime], ServerTls],
) -> None:
    """The chain carries the new CA's key, vouched for by the old one: nobody notices the switch."""
    first = serve(START)
    end = end_of(first)
    serve(end - PREPARE_BELOW + DAY)
    now = end - ACTIVATE_BELOW + DAY
    switched = serve(now)

    assert switched.ca_der != first.ca_der
    assert first.ca_der in switched.anchors
    assert believed(switched, first.anchors, now), "an existing agent goes on"
    assert believed(switched, (switched.ca_der,), now), "a new agent pins the new one"
    assert believed(switched, switched.anchors, now), "an agent that has learnt it"
    assert believed(serve(end - DAY), first.anchors, end - DAY)
    after = serve(end + DAY)
    assert not believed(after, first.anchors, end + DAY), "the end of the old root is the end"
    assert believed(after, (switched.ca_der,), end + DAY)
    assert after.anchors == (switched.ca_der,), "what has ended is announced no more"


def test_tls_clients_of_either_root_shake_hands_after_the_switch(
    data_dir: Path, secret: SealingSecret
) -> None:
    """Also as OpenSSL sees it, which agents of other languages use."""
    now = datetime.now(UTC)
    old = load_or_create_tls(data_dir, secret, names=NAMES, now=now)
    prepare(data_dir, secret, now=now)
    activate(data_dir, secret, now=now)
    tls = load_or_create_tls(data_dir, secret, names=NAMES, now=now)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls.cert_file, tls.key_file)

    for root in (old.ca_pem, tls.ca_pem, old.ca_pem + tls.ca_pem):
        shake_hands(ssl.create_default_context(cadata=root), server)


def shake_hands(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    """Shake hands in memory; raises ``ssl.SSLError`` when the client does not believe the server."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=NAMES[0])
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.getpeercert()


def test_a_ca_of_before_rotations_cannot_vouch_and_is_replaced_on_its_last_days_only(
    data_dir: Path, secret: SealingSecret, serve: Callable[[datetime], ServerTls]
) -> None:
    """Its path length is zero: a chain through it would be refused, so its agents keep it as long as can be."""
    of_before = RootName("server-ca", "CT-Ops Server CA", "of before", key_in_name=True)
    root = load_or_create_root(data_dir, of_before, secret, now=START)
    end = root.certificate.not_valid_after_utc

    late = serve(end - 4 * DAY)
    assert late.ca_der == root.der
    assert len(late.anchors) == 2
    assert believed(late, (root.der,), end - 4 * DAY)
    last = serve(end - 2 * DAY)
    assert last.ca_der != root.der
    assert last.chain_pem.count("BEGIN") == 1


def test_a_clock_that_leaps_beyond_the_end_replaces_nothing(
    data_dir: Path, secret: SealingSecret, serve: Callable[[datetime], ServerTls]
) -> None:
    """Rather it is the clock that is wrong: a new CA would cost the whole fleet."""
    first = serve(START)

    with pytest.raises(AuthorityError, match="Set the clock"):
        serve(end_of(first) + DAY)

    assert not (data_dir / STATE_FILE).exists()
    assert serve(START + DAY).anchors == first.anchors


def test_steps_are_taken_in_order(data_dir: Path, secret: SealingSecret) -> None:
    """What does not follow is refused with what does."""
    open_server_cas(data_dir, secret, now=START)
    with pytest.raises(StepError, match="prepare one"):
        activate(data_dir, secret, now=START)
    with pytest.raises(StepError, match="no earlier"):
        retire(data_dir, secret, now=START)
    prepare(data_dir, secret, now=START)
    with pytest.raises(StepError, match="activate"):
        prepare(data_dir, secret, now=START)


def test_retired_ones_are_announced_no_more_and_the_next_has_a_name_of_its_own(
    data_dir: Path, secret: SealingSecret, serve: Callable[[datetime], ServerTls]
) -> None:
    """Two rotations in a row leave the third, and numbers are never used twice."""
    serve(START)
    for _ in range(2):
        prepare(data_dir, secret, now=START)
        activate(data_dir, secret, now=START)
        retired: ServerCas = retire(data_dir, secret, now=START)
        assert serve(START).anchors == (retired.signs.der,)
        assert serve(START).chain_pem.count("BEGIN") == 1
    assert retired.signs.file.name == "server-ca-3.crt"


def test_a_restored_directory_is_believed_again_once_it_has_the_lost_ones_server_cas(
    data_dir: Path, secret: SealingSecret, serve: Callable[[datetime], ServerTls], tmp_path: Path
) -> None:
    """The backup is of before a change; agents believe only the new CA. Copying ``server-ca*`` is all there is to do."""
    serve(START)
    backup = shutil.copytree(data_dir, tmp_path / "backup")
    prepare(data_dir, secret, now=START)
    activate(data_dir, secret, now=START)
    retire(data_dir, secret, now=START)
    agents = serve(START).anchors
    lost = data_dir.rename(tmp_path / "lost")
    shutil.copytree(backup, data_dir)
    believed_before = believed(serve(START), agents, START + DAY)
    for file in lost.glob("server-ca*"):
        shutil.copy(file, data_dir)

    assert not believed_before
    assert believed(serve(START), agents, START + DAY)


def test_a_crash_before_the_state_is_written_leaves_what_the_next_try_uses(
    data_dir: Path, secret: SealingSecret
) -> None:
    """The files of the next one are there, and nobody has been told of them."""
    open_server_cas(data_dir, secret, now=START)
    prepared = prepare(data_dir, secret, now=START)
    assert prepared.following is not None
    (data_dir / STATE_FILE).unlink()

    assert open_server_cas(data_dir, secret, now=START).following is None
    again = prepare(data_dir, secret, now=START)
    assert again.following is not None
    assert again.following.der == prepared.following.der


def test_a_damaged_state_file_is_said_and_not_guessed(data_dir: Path, secret: SealingSecret) -> None:
    """Which CA signs is nothing to guess."""
    open_server_cas(data_dir, secret, now=START)
    (data_dir / STATE_FILE).write_text('{"signs": ')
    with pytest.raises(AuthorityError, match="damaged"):
        open_server_cas(data_dir, secret, now=START)


def test_the_cross_certificate_ends_with_the_ca_that_vouches(data_dir: Path, secret: SealingSecret) -> None:
    """It says nothing of its own: the new CA's name and key."""
    old = open_server_cas(data_dir, secret, now=START)
    prepare(data_dir, secret, now=START)
    (cross,) = activate(data_dir, secret, now=START).crosses

    assert cross.not_valid_after_utc == old.signs.certificate.not_valid_after_utc
    assert cross.issuer == old.signs.certificate.subject
    der = serialization.Encoding.DER
    assert cross.public_bytes(der) != old.signs.der


def test_in_the_last_months_of_a_ca_the_certificate_is_not_looked_at_without_end(
    data_dir: Path, secret: SealingSecret, serve: Callable[[datetime], ServerTls]
) -> None:
    """Its life is cut short by the CA's end, so less than a third of a usual one is left all the time."""
    first = serve(START)
    now = end_of(first) - 100 * DAY
    served = ServedTls(serve(now - 30 * DAY), load=serve, ca_file=None, is_our_own=True)
    assert served.current.ca_der == first.ca_der

    changes = 0
    for second in range(100):
        found = served.candidate(now + timedelta(seconds=second))
        if found is not None:
            served.accept(found)
            changes += 1
    assert changes <= 1
    assert served.current.anchors[0] == first.ca_der

    switched = served.candidate(end_of(first) - ACTIVATE_BELOW)
    assert switched is not None
    assert switched.ca_der != first.ca_der, "and it switches when the time has come, without a restart"

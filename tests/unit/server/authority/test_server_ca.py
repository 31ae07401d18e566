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
from ct_ops_server.authority.server_ca import ACTIVATE_BELOW, PREPARE_BELOW, StepError, Turn
from ct_ops_server.authority.server_ca_files import STATE_FILE
from ct_ops_server.authority.server_ca_lineage import MOST_ANCHORS
from ct_ops_server.authority.server_certificate import ServerTls, load_or_create_tls
from server_ca_steps import ServerCaNode

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("server.example",)
DAY = timedelta(days=1)
YEAR = 365 * DAY


@pytest.fixture
def node(data_dir: Path, secret: SealingSecret) -> ServerCaNode:
    """A data directory whose server CAs are looked after."""
    return ServerCaNode(data_dir, secret, names=NAMES)


@pytest.fixture
def serve(node: ServerCaNode) -> Callable[[datetime], ServerTls]:
    """Do what is due at a moment, and load what is served then."""
    return node.serve


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


def test_tls_clients_of_either_root_shake_hands_after_the_switch(node: ServerCaNode) -> None:
    """Also as OpenSSL sees it, which agents of other languages use."""
    now = datetime.now(UTC)
    old = node.serve(now)
    node.step(Turn.PREPARE, now)
    node.step(Turn.ACTIVATE, now)
    tls = node.serve(now)
    server = server_context(tls)

    for root in (old.ca_pem, tls.ca_pem, old.ca_pem + tls.ca_pem):
        shake_hands(ssl.create_default_context(cadata=root), server)


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Return what presents this chain."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls.cert_file, tls.key_file)
    return server


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


def of_before_rotations(data_dir: Path, secret: SealingSecret) -> bytes:
    """Make a server CA as they were then: nothing may stand between it and a certificate."""
    name = RootName("server-ca", "CT-Ops Server CA", "of before", key_in_name=True)
    return load_or_create_root(data_dir, name, secret, now=START).der


def test_a_ca_of_before_rotations_cannot_vouch_and_is_replaced_on_its_last_days_only(
    data_dir: Path, secret: SealingSecret, serve: Callable[[datetime], ServerTls]
) -> None:
    """Its path length is zero: a chain through it would be refused, so its agents keep it as long as can be."""
    root = of_before_rotations(data_dir, secret)
    end = x509.load_der_x509_certificate(root).not_valid_after_utc

    late = serve(end - 4 * DAY)
    assert late.ca_der == root
    assert len(late.anchors) == 2
    assert believed(late, (root,), end - 4 * DAY)
    last = serve(end - 2 * DAY)
    assert last.ca_der != root
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


def test_steps_are_taken_in_order(node: ServerCaNode) -> None:
    """What does not follow is refused with what does."""
    node.serve(START)
    with pytest.raises(StepError, match="prepare one"):
        node.step(Turn.ACTIVATE, START)
    with pytest.raises(StepError, match="no earlier"):
        node.step(Turn.RETIRE, START)
    node.step(Turn.PREPARE, START)
    with pytest.raises(StepError, match="activate"):
        node.step(Turn.PREPARE, START)


def test_retired_ones_are_announced_no_more_and_the_next_has_a_name_of_its_own(
    node: ServerCaNode, data_dir: Path
) -> None:
    """Two rotations in a row leave the third, and numbers are never used twice; keys of retired ones are erased."""
    node.serve(START)
    for _ in range(2):
        node.step(Turn.PREPARE, START)
        node.step(Turn.ACTIVATE, START)
        node.step(Turn.RETIRE, START)
        served = node.serve(START)
        assert served.anchors == (served.ca_der,)
        assert served.chain_pem.count("BEGIN") == 1
    assert node.lineage.signs.number == 3
    assert [each.name for each in data_dir.glob("server-ca*.key")] == ["server-ca-3.key"]


def test_a_restored_directory_is_believed_again_once_it_has_the_lost_ones_server_cas(
    data_dir: Path, node: ServerCaNode, tmp_path: Path
) -> None:
    """The backup is of before a change; agents believe only the new CA. Copying ``server-ca*`` is all there is to do."""
    node.serve(START)
    backup = shutil.copytree(data_dir, tmp_path / "backup")
    for turn in (Turn.PREPARE, Turn.ACTIVATE, Turn.RETIRE):
        node.step(turn, START)
    agents = node.serve(START).anchors
    lost = data_dir.rename(tmp_path / "lost")
    shutil.copytree(backup, data_dir)
    believed_before = believed(node.serve(START), agents, START + DAY)
    for file in lost.glob("server-ca*"):
        shutil.copy(file, data_dir)

    assert not believed_before
    assert believed(node.serve(START), agents, START + DAY)


def test_a_damaged_state_file_is_said_and_not_guessed(node: ServerCaNode, data_dir: Path) -> None:
    """Which CA signs is nothing to guess."""
    node.serve(START)
    (data_dir / STATE_FILE).write_text('{"signs": ')
    with pytest.raises(AuthorityError, match="damaged"):
        node.serve(START)


def test_a_state_file_of_before_there_were_versions_is_read(node: ServerCaNode, data_dir: Path) -> None:
    """An installation that was updated in the middle of a change goes on with it."""
    node.serve(START)
    node.step(Turn.PREPARE, START)
    node.step(Turn.ACTIVATE, START)
    before = node.serve(START).anchors
    (data_dir / STATE_FILE).write_text('{"signs": 2, "next": null, "before": [1]}\n')

    assert node.serve(START).anchors == before
    assert node.lineage.version == 1


def test_the_cross_certificate_ends_with_the_ca_that_vouches(node: ServerCaNode) -> None:
    """It says nothing of its own: the new CA's name and key."""
    node.serve(START)
    old = node.lineage.signs.certificate
    node.step(Turn.PREPARE, START)
    cross = node.step(Turn.ACTIVATE, START).signs.cross

    assert cross is not None
    assert cross.not_valid_after_utc == old.not_valid_after_utc
    assert cross.issuer == old.subject
    der = serialization.Encoding.DER
    assert cross.public_bytes(der) != old.public_bytes(der)


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


def test_an_agent_that_believes_only_the_first_of_three_is_connected_until_its_end(
    node: ServerCaNode,
) -> None:
    """Two changes within the life of the first one: the chain is one line from the third to the first."""
    now = datetime.now(UTC)
    served = [node.serve(now)]
    for _ in range(2):
        node.step(Turn.PREPARE, now)
        node.step(Turn.ACTIVATE, now)
        served.append(node.serve(now))
    *_, third = served
    server = server_context(third)

    for each in served:
        assert believed(third, (each.ca_der,), now)
        shake_hands(ssl.create_default_context(cadata=each.ca_pem), server)
    last_day = end_of(served[0]) - DAY
    assert believed(node.serve(last_day), (served[0].ca_der,), last_day)


def test_who_is_not_led_to_the_third_is_known_before_the_step(
    node: ServerCaNode, data_dir: Path, secret: SealingSecret
) -> None:
    """A first one of before rotations vouches for nobody, and time waits for its last days rather than cut agents off."""
    of_before_rotations(data_dir, secret)
    node.serve(START)
    node.step(Turn.PREPARE, START)
    assert [each.number for each in node.left_out_by_activation(START)] == [1]
    node.step(Turn.ACTIVATE, START)
    node.step(Turn.PREPARE, START)

    assert [each.number for each in node.left_out_by_activation(START)] == [1]


def test_eight_announced_server_cas_always_hold_the_one_that_signs_and_a_ninth_is_refused(
    node: ServerCaNode,
) -> None:
    """Agents believe eight at once; another one would push out one that somebody needs."""
    now = datetime.now(UTC)
    first = node.serve(now)
    for _ in range(MOST_ANCHORS - 1):
        node.step(Turn.PREPARE, now)
        node.step(Turn.ACTIVATE, now)
    served = node.serve(now)

    with pytest.raises(StepError, match="8 server CAs are announced"):
        node.step(Turn.PREPARE, now)
    assert len(served.anchors) == MOST_ANCHORS
    assert served.anchors[0] == served.ca_der
    assert first.ca_der in served.anchors
    server = server_context(served)
    for anchor in served.anchors:
        shake_hands(ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(anchor)), server)


@pytest.mark.parametrize("leap", [9 * YEAR, 3560 * DAY, 3650 * DAY])
def test_a_clock_that_was_years_ahead_locks_out_nobody_once_it_is_right_again(
    node: ServerCaNode, leap: timedelta
) -> None:
    """What was made meanwhile is dated back, so it is valid now, and leads to what agents believe."""
    first = node.serve(START)
    ahead = node.serve(START + leap)
    now = START + DAY
    served = node.serve(now)

    assert len(ahead.anchors) == 2
    assert believed(served, (first.ca_der,), now), "an agent of before"
    assert believed(served, (ahead.ca_der,), now), "an agent that was enrolled meanwhile"
    for each in served.anchors:
        assert x509.load_der_x509_certificate(each).not_valid_before_utc <= now


def test_a_step_of_a_wrong_clock_that_cut_agents_off_is_undone(
    node: ServerCaNode, data_dir: Path, secret: SealingSecret
) -> None:
    """Nothing leads from the first one to the second, so the first one signs again; and who knows only the second is led."""
    root = of_before_rotations(data_dir, secret)
    wrong = x509.load_der_x509_certificate(root).not_valid_after_utc - 2 * DAY
    ahead = node.serve(wrong)
    assert not believed(ahead, (root,), wrong)
    now = START + DAY
    served = node.serve(now)

    assert served.ca_der == root
    assert believed(served, (root,), now)
    assert believed(served, (ahead.ca_der,), now), "a token of meanwhile pins it"
    assert node.taken == [Turn.PREPARE, Turn.ACTIVATE, Turn.GO_BACK]
    later = node.serve(wrong)
    assert (later.ca_der, node.taken[-1]) == (ahead.ca_der, Turn.ACTIVATE), "when time has really come"


def test_a_step_that_an_operator_forced_is_not_undone_by_a_clock(
    node: ServerCaNode, data_dir: Path, secret: SealingSecret
) -> None:
    """The old one's key was stolen: the operator knew what it costs."""
    root = of_before_rotations(data_dir, secret)
    node.serve(START)
    node.step(Turn.PREPARE, START)
    node.step(Turn.ACTIVATE, START)

    assert node.serve(START + DAY).ca_der != root


def test_one_that_begins_in_years_is_never_served_while_another_is_valid(
    node: ServerCaNode, data_dir: Path, secret: SealingSecret
) -> None:
    """An earlier version made it while the clock was nine years ahead, and activated it."""
    first, later = node.serve(START), START + 9 * YEAR
    second = ServerCaNode(data_dir.with_name("later"), secret, names=NAMES)
    second.serve(later)
    for end in (".crt", ".key"):
        shutil.copy(second.data_dir / f"server-ca{end}", data_dir / f"server-ca-2{end}")
    (data_dir / STATE_FILE).write_text('{"signs": 2, "next": null, "before": [1]}\n')
    loaded = load_or_create_tls(data_dir, secret, names=NAMES, now=START)
    served = node.serve(START)

    assert loaded.ca_der == served.ca_der == first.ca_der, "before anybody takes a step, and after"
    assert believed(served, (first.ca_der,), START)
    assert node.taken == [Turn.GO_BACK]
    with pytest.raises(StepError, match="set the clock"):
        node.step(Turn.ACTIVATE, START)


def test_time_moves_nothing_before_all_clocks_agree(node: ServerCaNode) -> None:
    """This host's clock may be wrong, and the database's as well; both are not wrong the same way."""
    first = node.serve(START)
    ahead = end_of(first) - DAY

    assert node.due(START, ahead) is None
    assert node.due(ahead, START) is None
    assert node.due(ahead, ahead - DAY) is Turn.PREPARE

"""Starts after operators changed settings and files of the agent CA: who signs, and what the database says then."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.leaf_identity import LeafIdentity, LeafOfAgent
from ct_ops_server.authority.life_cycle import Kind, Step
from ct_ops_server.authority.public_key import PublicKey, canonical_public_key
from ct_ops_server.authority.rotation import StepRefusedError
from ct_ops_server.authority.starting import StartRefusedError
from ct_ops_server.core import Core, replace_lost_key
from own_authority import SERVERS_ONLY, OwnCa, make_ca
from real_server import settings_for
from unit.server.starting_world import NOW, Install, audited, known, name_of, take

ROTATION = (Step.PREPARE, Step.ACTIVATE, Step.RETIRE)
YEAR = timedelta(days=365)


@pytest.fixture
def install(tmp_path: Path) -> Install:
    (tmp_path / "server").mkdir(mode=0o700)
    return Install(settings_for(tmp_path / "server"))


@pytest.fixture(scope="module")
def root() -> OwnCa:
    return make_ca("Own Root", now=NOW, days=(-1, 9000))


@pytest.fixture(scope="module")
def own(root: OwnCa) -> OwnCa:
    return make_ca("Own Agents", above=root, now=NOW, days=(-1, 400))


@pytest.fixture(scope="module")
def renewed(root: OwnCa, own: OwnCa) -> OwnCa:
    """The same CA, with new dates."""
    return make_ca("Own Agents", above=root, key=own.key, now=NOW, days=(-1, 2000))


@pytest.fixture(scope="module")
def public_key() -> PublicKey:
    return canonical_public_key(ed25519.Ed25519PrivateKey.generate().public_key())


def leaf_of(core: Core, public_key: PublicKey) -> bytes:
    return core.trust.current.authority.issue_leaf(public_key, "a1", core.installation.id, now=core.now()).der


def is_agent(identity: LeafIdentity) -> bool:
    return isinstance(identity, LeafOfAgent)


@pytest.mark.parametrize("steps", [ROTATION[:2], ROTATION], ids=["outgoing", "retired"])
@pytest.mark.parametrize("spoilt", ["ended", "key erased", "not ended"])
async def test_a_setting_that_a_rotation_has_gone_past_stops_no_start(
    install: Install, own: OwnCa, steps: tuple[Step, ...], spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither its end nor its key matters any more, which the operator was told to erase."""
    install.name_ca(own)
    await install.rotate(*steps)
    before = await install.states()
    if spoilt == "ended":
        install.now += 2 * YEAR
    if spoilt == "key erased":
        (install.data_dir.parent / "pki" / "ca.key").unlink()
    with caplog.at_level(logging.WARNING, logger="ct_ops_server.authority"):
        caplog.clear()
        after = await install.states()

    assert before == after
    assert ["outgoing" if steps[-1] is Step.ACTIVATE else "retired", "active"] == list(after.values())
    assert [1] == [record.getMessage().count("and is ignored") for record in caplog.records]


async def test_a_setting_whose_ca_was_discarded_stops_no_start(install: Install, own: OwnCa) -> None:
    """It was prepared by the setting, and given up; later it ended."""
    await install.states()
    install.name_ca(own)
    await install.rotate(Step.DISCARD)
    install.now += 2 * YEAR

    assert ["active", "retired"] == list((await install.states()).values())


async def test_a_named_ca_that_has_ended_and_is_new_is_refused(install: Install, own: OwnCa) -> None:
    """What is named and cannot be used is no wish that can be overlooked."""
    await install.states()
    install.name_ca(own)
    install.now += 2 * YEAR
    with pytest.raises(AuthorityError, match="has expired"):
        await install.states()
    install.name_ca(None)

    assert ["active"] == list((await install.states()).values())


async def test_the_active_ca_that_has_ended_leaves_the_operator_a_server_to_rotate_with(
    install: Install, own: OwnCa, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused, it could neither say what is the matter nor take up the next one."""
    install.name_ca(own)
    await install.states()
    install.now += 2 * YEAR
    with caplog.at_level(logging.WARNING, logger="ct_ops_server.authority"):
        await install.rotate(Step.PREPARE, Step.ACTIVATE)

    assert "has expired" in caplog.text
    assert ["outgoing", "active"] == list((await install.states()).values())


async def test_attack_a_lost_setting_makes_no_other_ca(install: Install, own: OwnCa) -> None:
    """The operator's CA signs, and its key is nowhere else: refused, and nothing is made."""
    install.name_ca(own)
    before = await install.states()
    install.name_ca(None)
    with pytest.raises(StartRefusedError) as refusal:
        await install.states()
    install.name_ca(own)

    assert "set INGEST_AGENT_CA_CERT and INGEST_AGENT_CA_KEY to it again" in str(refusal.value)
    assert name_of(own)[:16] in str(refusal.value)
    assert not [each for each in install.files() if each.startswith("agent-ca")]
    assert before == await install.states()


async def test_attack_a_second_node_without_the_setting_makes_no_other_ca(
    install: Install, own: OwnCa
) -> None:
    """Also while the first one is down."""
    install.name_ca(own)
    before = await install.states()
    second = install.node("second")
    second.name_ca(None)
    with pytest.raises(StartRefusedError, match="to it again"):
        await second.states()

    assert {"jwt_key.pem"} == second.files()
    assert before == await install.states()


@pytest.mark.parametrize("lost", [("agent-ca.key",), ("agent-ca.crt", "agent-ca.key")], ids=["key", "both"])
async def test_attack_lost_files_make_no_other_ca(install: Install, lost: tuple[str, ...]) -> None:
    """Put back, they are as good as before."""
    before = await install.states()
    kept = {each: (install.data_dir / each).read_bytes() for each in lost}
    for each in lost:
        (install.data_dir / each).unlink()
    with pytest.raises(AuthorityError, match="backup"):
        await install.states()
    for each, content in kept.items():
        assert not (install.data_dir / each).exists()
        (install.data_dir / each).write_bytes(content)

    assert before == await install.states()


async def test_a_lost_certificate_is_the_databases(install: Install) -> None:
    """It was made again, with another name, and took the place of the one before."""
    before = await install.states()
    (install.data_dir / "agent-ca.crt").unlink()

    assert before == await install.states()


async def test_attack_files_of_another_installation_take_nobodys_place(
    install: Install, tmp_path: Path
) -> None:
    """A data directory that was pointed at another database, with nobody running."""
    (tmp_path / "other").mkdir(mode=0o700)
    other = Install(settings_for(tmp_path / "other"))
    before = await install.states()
    await other.states()
    for each in ("agent-ca.crt", "agent-ca.key"):
        (install.data_dir / each).write_bytes((other.data_dir / each).read_bytes())
    with pytest.raises(StartRefusedError, match="another one, and takes nobody's place"):
        await install.states()
    await other.rotate(Step.PREPARE)  # its key is in its database from here on
    theirs = await other.states()
    (other.data_dir / "agent-ca.crt").write_text(make_ca("Stranger", now=NOW).pem)

    assert 1 == len(before)
    assert theirs == await other.states()


async def test_a_start_goes_on_with_the_key_of_the_database(install: Install, own: OwnCa) -> None:
    """After a rotation was begun, neither setting nor files are needed, on any node."""
    install.name_ca(own)
    await install.rotate(Step.PREPARE)
    install.name_ca(None)
    second = install.node("second")
    seen = [await each.states() for each in (install, second)]

    assert [["active", "prepared"]] * 2 == [list(each.values()) for each in seen]
    assert name_of(own) == next(iter(seen[0]))


async def test_a_new_ca_waits_while_another_rotation_is_under_way(
    install: Install, own: OwnCa, caplog: pytest.LogCaptureFixture
) -> None:
    """And is prepared by the start after it."""
    await install.rotate(Step.PREPARE)
    install.name_ca(own)
    with caplog.at_level(logging.WARNING, logger="ct_ops_server.authority"):
        waiting = await install.states()
    await install.rotate(Step.DISCARD)
    prepared = await install.states()

    assert "finish that rotation" in caplog.text
    assert name_of(own) not in waiting
    assert "prepared" == prepared[name_of(own)]


async def test_a_renewed_certificate_of_the_same_key_goes_on_as_the_same_ca(
    install: Install, own: OwnCa, renewed: OwnCa, public_key: PublicKey
) -> None:
    """Agents get the new chain, leaves of before count beyond the old certificate's end, and it is in the audit log."""
    install.name_ca(own)
    async with install.open() as core:
        leaf = leaf_of(core, public_key)
    install.name_ca(renewed)
    async with install.open() as core:
        states, log = await known(core), await audited(core)
        chain, retired = core.trust.current.authority.pem, core.trust.current.retired
        assert is_agent(core.identify(leaf))
        install.now += timedelta(days=350)
        late = leaf_of(core, public_key)
    assert {name_of(own): "retired", name_of(renewed): "active"} == states
    assert renewed.pem == chain
    assert frozenset() == retired
    assert ("ca.renewed", "server") in log
    assert ("ca.retired", "server") not in log

    install.now += timedelta(days=60)  # beyond the end of the first certificate
    async with install.open() as core:
        assert is_agent(core.identify(late))
        await take(core, Kind.CA, Step.PREPARE)
        await take(core, Kind.CA, Step.ACTIVATE)
        assert is_agent(core.identify(late))
        await take(core, Kind.CA, Step.RETIRE)
        assert not is_agent(core.identify(late))
        assert 2 == len(core.trust.current.retired)


async def test_a_node_with_the_certificate_of_before_goes_on_with_the_renewed_one(
    install: Install, own: OwnCa, renewed: OwnCa
) -> None:
    """Its setting names what was renewed: nobody goes back and forth."""
    install.name_ca(own)
    await install.states()
    install.name_ca(renewed)
    await install.states()
    install.name_ca(own)
    async with install.open() as core:
        chain = core.trust.current.authority.pem
        states = await known(core)

    assert renewed.pem == chain
    assert ["retired", "active"] == list(states.values())


async def test_a_certificate_is_renewed_in_the_middle_of_a_rotation(
    install: Install, own: OwnCa, renewed: OwnCa
) -> None:
    """Of the active one and of the prepared one, each in its place, with its sealed key."""
    install.name_ca(own)
    await install.rotate(Step.PREPARE)
    install.name_ca(renewed)
    await install.states()
    install.name_ca(None)
    active = await install.states()
    await install.rotate(Step.ACTIVATE, Step.RETIRE)

    assert ["retired", "prepared", "active"] == list(active.values())
    assert ["retired", "active", "retired"] == list((await install.states()).values())


async def test_a_prepared_ca_is_renewed_in_its_place(install: Install, own: OwnCa, renewed: OwnCa) -> None:
    """And is activated with the new certificate."""
    await install.states()
    install.name_ca(own)
    await install.states()
    install.name_ca(renewed)
    await install.rotate(Step.ACTIVATE)
    async with install.open() as core:
        assert renewed.pem == core.trust.current.authority.pem


async def test_a_renewed_root_above_the_same_ca_is_taken_up(
    install: Install, own: OwnCa, root: OwnCa, public_key: PublicKey
) -> None:
    """Chains end with the first of their certificates, so the stored one must follow."""
    short = make_ca("Own Root", key=root.key, now=NOW, days=(-1, 100))
    install.name_ca(replace(own, above=(short.certificate,)))
    async with install.open() as core:
        leaf = leaf_of(core, public_key)
    install.name_ca(own)
    async with install.open() as core:
        chain, log = core.trust.current.authority.pem, await audited(core)
    install.name_ca(replace(own, above=(short.certificate,)))
    install.now += timedelta(days=80)
    async with install.open() as core:
        assert is_agent(core.identify(leaf))
        assert own.pem == core.trust.current.authority.pem
        assert {name_of(own): "active"} == await known(core)

    assert own.pem == chain
    assert ("ca.renewed", "server") in log


async def test_a_renewed_certificate_that_cannot_be_used_is_refused(
    install: Install, own: OwnCa, root: OwnCa
) -> None:
    """The old one stays, and its operator is told."""
    install.name_ca(own)
    before = await install.states()
    install.name_ca(make_ca("Own Agents", above=root, key=own.key, now=NOW, uses=SERVERS_ONLY))
    with pytest.raises(AuthorityError, match="lacks clientAuth"):
        await install.states()
    install.name_ca(own)

    assert before == await install.states()


async def test_a_renewed_certificate_that_is_brought_by_command_rotates_without_waiting(
    install: Install, own: OwnCa, renewed: OwnCa, public_key: PublicKey
) -> None:
    """Leaves of the one before count on, so nobody is in the way of retiring it."""
    install.name_ca(own)
    async with install.open() as core:
        leaf = leaf_of(core, public_key)
        await take(core, Kind.CA, Step.PREPARE, renewed)
        await take(core, Kind.CA, Step.ACTIVATE)
        await take(core, Kind.CA, Step.RETIRE)
        assert is_agent(core.identify(leaf))
        assert frozenset() == core.trust.current.retired
        assert renewed.pem == core.trust.current.authority.pem


async def test_attack_the_key_of_a_retired_ca_does_not_come_back(
    install: Install, own: OwnCa, renewed: OwnCa
) -> None:
    """It may be retired because it was stolen; neither a command nor a setting brings it back."""
    install.name_ca(own)
    await install.rotate(*ROTATION)
    before = await install.states()
    with pytest.raises(AuthorityError, match="which is retired: what that one has signed would count again"):
        await install.rotate(Step.PREPARE, brought=renewed)
    install.name_ca(renewed)

    assert before == await install.states()


async def test_a_lost_ca_is_replaced_on_command_and_its_leaves_stay_good(
    install: Install, own: OwnCa, public_key: PublicKey
) -> None:
    """The way out that a refused start names. There is no way back to a key that is lost."""
    install.name_ca(own)
    async with install.open() as core:
        leaf = leaf_of(core, public_key)
        with pytest.raises(StartRefusedError, match="nothing is lost"):
            await replace_lost_key(install.settings, Kind.CA, actor="ada", now=lambda: NOW)
    install.name_ca(None)
    name = await replace_lost_key(install.settings, Kind.CA, actor="ada", now=lambda: NOW)
    async with install.open() as core:
        assert {name_of(own): "outgoing", name: "active"} == await known(core)
        assert is_agent(core.identify(leaf))
        assert name == core.trust.current.authority.sha256.hex()
        assert ("ca.activated", "ada") in await audited(core)
        with pytest.raises(StepRefusedError, match="its private key is lost"):
            await take(core, Kind.CA, Step.GO_BACK)
        await take(core, Kind.CA, Step.RETIRE)


async def test_attack_a_key_is_not_lost_while_a_server_runs_with_it(install: Install, own: OwnCa) -> None:
    """The node that asks merely lacks it."""
    install.name_ca(own)
    async with install.open() as core:
        await core.store.presence.renew_lease("w1")
        second = install.node("second")
        second.name_ca(None)
        with pytest.raises(StartRefusedError, match="a server is running on this database, and has the key"):
            await replace_lost_key(second.settings, Kind.CA, actor="ada", now=lambda: NOW)

        assert {name_of(own): "active"} == await known(core)

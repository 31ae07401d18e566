"""Two nodes have the same server CAs; each step is in the audit log, whatever is killed in between; looking takes none."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from cryptography.hazmat.primitives import serialization

from ct_ops_server.audit.decisions import SERVER, Action, Decision
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.sealing import SealingSecret, load_or_create_secret
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_ca import PREPARE_BELOW, StepError, Turn, open_server_cas
from ct_ops_server.authority.server_ca_files import STATE_FILE, read_lineage
from ct_ops_server.authority.server_ca_lineage import MOST_ANCHORS
from ct_ops_server.authority.server_certificate import ServerTls, load_or_create_tls
from ct_ops_server.fleet.following import Following
from ct_ops_server.fleet.server_ca_desk import ServerCaDesk, Step, TooFewFollowError
from ct_ops_server.fleet.shared_server_cas import Recorded, SharedServerCas
from fakes.memory_anchors import MemoryAnchors
from fakes.memory_server_cas import MemoryServerCas
from fakes.memory_store import MemoryStore

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ALMOST_OVER = START + 3500 * DAY


class KilledError(BaseException):
    """The process is gone."""


@dataclass
class Installation:
    """One database, and nodes with a data directory each."""

    folder: Path
    clock: datetime = START
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet = MemoryStore(lambda: self.clock)
        self.store = MemoryServerCas(self.fleet, lambda: self.clock, self.decisions.extend)
        (self.folder / "secret").parent.mkdir(exist_ok=True)
        self.secret = load_or_create_secret(self.folder / "secret")

    def node(self, name: str, *, copy_of: Path | None = None) -> SharedServerCas:
        """Return a node; its first server CA is a copy, as the documentation asks for, or its own."""
        data_dir = self.folder / name
        if copy_of is not None and not data_dir.exists():
            shutil.copytree(copy_of, data_dir)
        data_dir.mkdir(mode=0o700, exist_ok=True)
        open_server_cas(data_dir, self.secret, now=self.clock)
        return self.opened(data_dir, self.secret)

    def opened(self, data_dir: Path, secret: SealingSecret) -> SharedServerCas:
        """Return what a process does with a data directory."""
        return SharedServerCas(
            self.store, secret, data_dir=data_dir, alone=lambda _: nullcontext(), now=lambda: self.clock
        )

    def actions(self) -> Sequence[tuple[Action, str]]:
        """Return what the audit log says: what, and by whom."""
        return [(each.action, each.actor) for each in self.decisions]


@pytest.fixture
def world(tmp_path: Path) -> Installation:
    """An installation without nodes."""
    return Installation(tmp_path)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what a data directory holds."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_two_nodes_whose_time_comes_at_once_have_the_same_next_one(world: Installation) -> None:
    """Whichever is first prepares it; the other one takes it out of the rows, with its key."""
    first = world.node("one")
    second = world.node("two", copy_of=world.folder / "one")
    world.clock = ALMOST_OVER

    assert [await first.take_due(), await second.take_due()] == [[Turn.PREPARE], []]

    assert (await first.here()).says_the_same(await second.here())
    assert (world.folder / "two" / "server-ca-2.key").exists()
    assert world.actions() == [(Action.SERVER_CA_PREPARED, SERVER)]


async def test_of_two_nodes_that_step_at_the_same_moment_one_is_told_so(world: Installation) -> None:
    """And its files are as they were."""
    first = world.node("one")
    second = world.node("two", copy_of=world.folder / "one")
    found = await second.settle()
    await first.take(Turn.PREPARE, actor="ada")
    with (
        mock.patch.object(second, "settle", return_value=found),
        pytest.raises(StepError, match="another step was taken"),
    ):
        await second.take(Turn.PREPARE, actor="bob")

    assert not (world.folder / "two" / "server-ca-2.crt").exists()
    await second.catch_up()
    assert (await first.here()).says_the_same(await second.here())
    assert world.actions() == [(Action.SERVER_CA_PREPARED, "ada")]


async def test_every_node_can_sign_after_each_step_and_erases_what_is_retired(world: Installation) -> None:
    """Also one that was off all the time: it needs the secret, and to have been there once."""
    first = world.node("one")
    asleep = world.node("two", copy_of=world.folder / "one")
    for turn in (Turn.PREPARE, Turn.ACTIVATE, Turn.RETIRE):
        await first.take(turn, actor="ada")
    await asleep.catch_up()

    opened = open_server_cas(world.folder / "two", world.secret, now=world.clock)
    assert opened.signs.file.name == "server-ca-2.crt"
    assert not (world.folder / "two" / "server-ca.key").exists()
    assert not (world.folder / "one" / "server-ca.key").exists()


async def test_a_node_with_a_server_ca_of_its_own_is_told_what_to_do_and_changes_nothing(
    world: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    """Its agents believe another one: neither files nor rows are replaced. Said once, and shown as long as it lasts."""
    first, stranger = world.node("one"), world.node("two")
    await first.take(Turn.PREPARE, actor="ada")
    recorded, before = await world.store.load(), files_of(world.folder / "two")
    with caplog.at_level(logging.ERROR):
        await stranger.catch_up()
        await stranger.catch_up()
    with pytest.raises(AuthorityError, match="copy server-ca"):
        await stranger.take(Turn.PREPARE, actor="bob")

    assert "copy server-ca* and the secret" in stranger.problem
    assert len(caplog.records) == 1
    assert (files_of(world.folder / "two"), await world.store.load()) == (before, recorded)


async def test_a_node_with_another_secret_keeps_its_files(world: Installation) -> None:
    """It could not sign with what it would take."""
    first = world.node("one")
    shutil.copytree(world.folder / "one", world.folder / "two")
    other = load_or_create_secret(world.folder / "other-secret")
    for turn in (Turn.PREPARE, Turn.ACTIVATE):
        await first.take(turn, actor="ada")
    second = world.opened(world.folder / "two", other)
    before = files_of(world.folder / "two")
    await second.catch_up()

    assert "secret" in second.problem
    assert files_of(world.folder / "two") == before


@pytest.mark.parametrize(
    "killed_in",
    [
        "ct_ops_server.fleet.shared_server_cas.write_lineage",
        "ct_ops_server.authority.server_ca_files.erase_retired",
    ],
)
async def test_a_kill_between_the_rows_and_the_files_is_caught_up_with_at_the_next_start(
    world: Installation, killed_in: str
) -> None:
    """The entry is in the audit log, in the transaction of the step; the files follow."""
    first = world.node("one")
    for turn in (Turn.PREPARE, Turn.ACTIVATE):
        await first.take(turn, actor="ada")
    with mock.patch(killed_in, side_effect=KilledError), pytest.raises(KilledError):
        await first.take(Turn.RETIRE, actor="ada")
    assert world.actions()[-1] == (Action.SERVER_CA_RETIRED, "ada")
    assert (world.folder / "one" / "server-ca.key").exists()
    await world.node("one").settle()

    lineage = read_lineage(world.folder / "one")
    assert lineage is not None
    assert (lineage.version, len(lineage.live)) == (3, 1)
    assert not (world.folder / "one" / "server-ca.key").exists()
    assert len(world.decisions) == 3


async def test_a_kill_before_the_rows_leaves_everything_as_it_was(world: Installation) -> None:
    """Neither the log nor agents have heard of anything."""
    first, before = world.node("one"), files_of(world.folder / "one")
    with mock.patch.object(world.store, "change", side_effect=KilledError), pytest.raises(KilledError):
        await first.take(Turn.PREPARE, actor="ada")

    assert (files_of(world.folder / "one"), world.decisions) == (before, [])


async def test_what_files_say_and_the_audit_log_does_not_is_entered_as_found(world: Installation) -> None:
    """The database is of an older backup, or somebody copied the files of a lost host here."""
    first = world.node("one")
    await first.take(Turn.PREPARE, actor="ada")
    backup = world.store.snapshot()
    await first.take(Turn.ACTIVATE, actor="ada")
    world.store.restore(backup)
    world.decisions.clear()
    await world.node("one").settle()
    await world.node("one").settle()

    lineage, (entered,) = await first.here(), world.decisions
    assert entered.action is Action.SERVER_CA_ACTIVATED
    assert entered.subject == lineage.signs.sha256.hex()
    assert dict(entered.details) == {"forced": False, "found": True}
    recorded = (await world.store.load()).lineage
    assert recorded is not None
    assert recorded.says_the_same(lineage)


async def test_an_installation_that_never_took_a_step_keeps_its_key_to_itself(world: Installation) -> None:
    """Nothing is in the database that a rotation does not need."""
    await world.node("one").settle()
    assert (await world.store.load()).lineage is None


async def test_a_key_that_somebody_put_open_into_a_file_is_sealed_before_it_goes_anywhere(
    world: Installation,
) -> None:
    """What lies in the database opens with the secret only."""
    first = world.node("one")
    member = (await first.here()).signs
    key = first._vault.root_of(member).key
    (world.folder / "one" / "server-ca.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    await first.take(Turn.PREPARE, actor="ada")
    recorded = (await world.store.load()).lineage
    assert recorded is not None
    assert all(b"ENCRYPTED" in (each.sealed_key or b"") for each in recorded.members)


def desk_of(world: Installation, shared: SharedServerCas) -> tuple[ServerCaDesk, MemoryAnchors]:
    """Return the operators' desk at a node."""

    def load(now: datetime) -> ServerTls:
        return load_or_create_tls(world.folder / "one", world.secret, names=("server.example",), now=now)

    served = ServedTls(load(world.clock), load=load, ca_file=None, is_our_own=True)
    anchors = MemoryAnchors(world.fleet)
    return ServerCaDesk(anchors, served, shared, hint=lambda _topic: None, now=lambda: world.clock), anchors


async def test_looking_takes_no_step_though_one_is_due(world: Installation) -> None:
    """Who asks how things are changes neither files nor rows nor the audit log."""
    desk, _ = desk_of(world, world.node("one"))
    world.clock, before = ALMOST_OVER, files_of(world.folder / "one")
    overview = await desk.overview()

    assert [each.role for each in overview.cas] == ["signs"]
    assert (files_of(world.folder / "one"), world.decisions) == (before, [])


async def test_a_ninth_is_refused_with_the_reason_also_to_time(world: Installation) -> None:
    """Nobody's server CA is pushed out; somebody has to decide."""
    shared = world.node("one")
    desk, _ = desk_of(world, shared)
    for _ in range(MOST_ANCHORS - 1):
        await desk.take(Step.PREPARE, force=False, actor="ada")
        await desk.take(Step.ACTIVATE, force=False, actor="ada")
    with pytest.raises(StepError, match="8 server CAs are announced"):
        await desk.take(Step.PREPARE, force=False, actor="ada")
    world.clock = ALMOST_OVER
    with pytest.raises(StepError, match="8 server CAs are announced"):
        await shared.take_due()


async def test_who_is_not_led_to_the_next_one_counts_at_once(world: Installation) -> None:
    """The first one allows one CA below it, so the third is out of reach of whoever believes only the first."""
    with mock.patch("ct_ops_server.authority.server_ca.PATH_LENGTH", 1):
        shared = world.node("one")
    desk, anchors = desk_of(world, shared)
    for step in (Step.PREPARE, Step.ACTIVATE, Step.PREPARE):
        await desk.take(step, force=False, actor="ada")
    assert not (await desk.overview()).vouched
    first, second = (each.sha256 for each in (await shared.here()).members[:2])
    nobody = Following(100, 0, 0, 0, ("many",))

    async def following(*any_of: bytes) -> Following:
        return Following(100, 99, 0, 0, ("asleep",)) if second in any_of and first not in any_of else nobody

    with (
        mock.patch.object(anchors, "following", following),
        pytest.raises(TooFewFollowError, match="cut off at once: asleep"),
    ):
        await desk.take(Step.ACTIVATE, force=False, actor="ada")


async def test_time_and_commands_say_who_did_what_to_which(world: Installation) -> None:
    """Each step once, about the server CA that something becomes of."""
    shared = world.node("one")
    await shared.take(Turn.PREPARE, actor="ada")
    await shared.take(Turn.ACTIVATE, actor="ada", forced=True)
    await shared.take(Turn.RETIRE, actor="ada")
    first, second = (
        (await shared.here()).members[0].sha256.hex(),
        (await shared.here()).members[1].sha256.hex(),
    )

    assert [(each.action, each.subject, each.details["forced"]) for each in world.decisions] == [
        (Action.SERVER_CA_PREPARED, second, False),
        (Action.SERVER_CA_ACTIVATED, second, True),
        (Action.SERVER_CA_RETIRED, first, False),
    ]


async def test_workers_that_find_a_step_due_at_the_same_moment_take_it_once_and_none_complains(
    world: Installation,
) -> None:
    """All of them look when they start."""
    data_dir = world.folder / "one"
    world.node("one")
    workers = [world.opened(data_dir, world.secret) for _ in range(4)]
    world.clock = START + 3600 * DAY
    taken = await asyncio.gather(*(each.take_due() for each in workers))

    assert sorted(turn for turns in taken for turn in turns) == [Turn.ACTIVATE, Turn.PREPARE]
    assert [action for action, _ in world.actions()] == [
        Action.SERVER_CA_PREPARED,
        Action.SERVER_CA_ACTIVATED,
    ]


async def test_a_second_between_two_clocks_is_no_trouble(world: Installation) -> None:
    """At the moment of a step they differ always; that they are years apart is told."""
    shared = world.node("one")
    end = (await shared.here()).signs.certificate.not_valid_after_utc
    world.clock = end - PREPARE_BELOW + timedelta(seconds=1)
    for behind in (timedelta(seconds=2), timedelta(days=300)):
        recorded = Recorded(None, world.clock - behind)
        with mock.patch.object(world.store, "load", return_value=recorded):
            if behind < DAY:
                assert await shared.take_due() == []
            else:
                with pytest.raises(StepError, match="the database's"):
                    await shared.take_due()


async def test_retiring_waits_for_the_nodes_that_follow_and_is_refused_for_one_that_does_not(
    world: Installation,
) -> None:
    """It would go on to show what agents forget; prepared and activated are no matter, since the chain leads everybody."""
    desk, _ = desk_of(world, shared := world.node("one"))
    second = world.node("two", copy_of=world.folder / "one")
    for worker, node in (("w1", shared), ("w2", second)):
        await world.fleet.renew_lease(worker)
        node.follow_as(worker, f"node-of-{worker}")
        await node.catch_up()
    for step in (Step.PREPARE, Step.ACTIVATE):
        await desk.take(step, force=False, actor="ada")
    await shared.catch_up()
    assert (await desk.overview()).nodes_behind == ["node-of-w2"]
    looks = 0

    async def rest(_seconds: float) -> None:
        nonlocal looks
        looks += 1

    with (
        mock.patch("ct_ops_server.fleet.server_ca_desk.asyncio.sleep", rest),
        pytest.raises(TooFewFollowError, match="node-of-w2 does not follow"),
    ):
        await desk.take(Step.RETIRE, force=False, actor="ada")
    assert looks > 1
    await second.catch_up()
    shown = await desk.take(Step.RETIRE, force=False, actor="ada")
    assert [each.role for each in shown.cas] == ["signs"]


async def test_two_nodes_of_before_that_prepared_one_each_agree_on_the_firsts(world: Installation) -> None:
    """The one that signs is the same, so agents behind either are led; the other next one never signed anything."""
    first = world.node("one")
    shutil.copytree(world.folder / "one", world.folder / "two")
    for name in ("one", "two"):
        alone = SharedServerCas(
            MemoryServerCas(world.fleet, lambda: world.clock),
            world.secret,
            data_dir=world.folder / name,
            alone=lambda _: nullcontext(),
            now=lambda: world.clock,
        )
        await alone.take(Turn.PREPARE, actor="ada")
        (world.folder / name / STATE_FILE).write_text('{"signs": 1, "next": 2, "before": []}\n')
    second = world.opened(world.folder / "two", world.secret)
    assert not (await first.here()).says_the_same(await second.here())
    await first.settle()
    await second.settle()

    assert (await first.here()).says_the_same(await second.here())
    assert second.problem == ""
    assert world.decisions == [], "their own logs have these steps"
    await second.take(Turn.ACTIVATE, actor="ada")
    assert (
        open_server_cas(world.folder / "two", world.secret, now=world.clock).signs.file.name
        == "server-ca-2.crt"
    )

"""A small world in which delivery is tried: agents with the real outbox, servers from the specification.

Everything that is random comes from one generator, so a history is its seed. Agents are crashed between any
two statements of SQL; frames and answers are lost, repeated and late; data directories are copied and go
back in time; servers are restored and changed.

What must hold at the end is `judge`. Three things nobody can know, and they are not asked for: what was put
into a directory that then went back to before that; what an installation lost after its agents had left it;
and how much of a batch is missing when only its summary is left: then gaps say at least as much.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from ct_ops_agent.batches import Batch, BatchAck, RefusedItem, Verdict
from ct_ops_agent.delivery.draft import Room
from ct_ops_agent.delivery.entries import SAMPLE, Entry, Lane, entries_of_samples, entry_of_result
from ct_ops_agent.delivery.outbox import Outbox, digest_of
from ct_ops_agent.delivery.position import Step, Theirs
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_agent.work import CheckResult, CheckStatus
from ct_ops_server.edge.items import items_of_batch
from ct_ops_server.fleet import delivery as server
from ct_ops_server.fleet import items as stored
from fakes.memory_deliveries import MemoryDeliveries, MemoryState

CODEC = ItemCodec()
START_MS = 1_800_000_000_000
DAY_MS = 86_400_000
PLENTY = Limits(2**40, 400 * DAY_MS)
_ResultT = TypeVar("_ResultT")


class CrashError(BaseException):
    """The process ended here."""


class FusedConnection(sqlite3.Connection):
    """A connection whose process may end before or after any statement."""

    fuse: int | None = None
    """Statements from now; ``None``: it lives."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._burn()
        cursor = super().execute(*arguments)
        self._burn()
        return cursor

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        self._burn()
        cursor = super().executemany(*arguments)
        self._burn()
        return cursor

    def _burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse = None
                raise CrashError


def fused_connection(image: bytes | None = None) -> FusedConnection:
    """Return a connection to a directory's file, or to a new one, in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=FusedConnection)
    if image:
        connection.deserialize(image)
    return connection


@dataclass(frozen=True)
class Thing:
    """An item as this world knows it: type and the time that makes it unique."""

    type: str
    at_ms: int


@dataclass(frozen=True)
class Directory:
    """A copy of a data directory."""

    image: bytes
    known: frozenset[Thing]


@dataclass
class Installation:
    """A server and its database."""

    name: str
    store_number: int = 0
    deliveries: MemoryDeliveries = field(default_factory=MemoryDeliveries)
    backups: list[MemoryState] = field(default_factory=list)
    writes: Counter[Thing] = field(default_factory=Counter)
    """How often an item was in a batch that was stored."""

    @property
    def store_id(self) -> bytes:
        """Changed by every restore."""
        return f"{self.name} {self.store_number}".encode().ljust(16, b".")

    @property
    def agent_id(self) -> str:
        """The name it gave the agent of this world."""
        return f"agent of {self.name}"

    def position(self, outbox_id: bytes) -> server.Position:
        """Return how far an outbox was stored."""
        return at_once(self.deliveries.position(self.agent_id, outbox_id))

    def store(self, batch: Batch) -> BatchAck:
        """Take a batch and answer."""
        number = server.BatchNumber(batch.outbox_id, batch.seq, digest_of(batch.payload))
        received = items_of_batch(batch.payload, datetime(2030, 1, 1, tzinfo=UTC))
        assert not received.malformed, received.malformed
        before = self.position(batch.outbox_id)
        delivered = at_once(
            self.deliveries.deliver(server.Delivery(self.agent_id, 1, received.items, number=number))
        )
        if delivered.verdict is server.Verdict.STORED and before != delivered.position:
            self.writes.update(
                thing_of(item) for _, item in received.items if not isinstance(item, stored.Gap)
            )
        return BatchAck(
            batch.outbox_id,
            batch.seq,
            number.digest,
            Verdict.STORED if delivered.verdict is server.Verdict.STORED else Verdict.MISMATCH,
            stored_seq=delivered.position.seq,
            stored_digest=delivered.position.digest,
            refused=tuple(RefusedItem(each.index, each.reason) for each in delivered.refused),
        )

    def back_up(self) -> None:
        """Keep a backup."""
        self.backups.append(self.deliveries.snapshot())

    def restore(self, backup: MemoryState) -> None:
        """Go back."""
        self.store_number += 1
        self.deliveries.restore(backup)

    def things(self) -> set[Thing]:
        """Return what it holds."""
        return {thing_of(item) for _, item in self.deliveries.state.items.values()}

    def gaps(self) -> list[stored.Gap]:
        """Return what it was told is missing."""
        return list(self.deliveries.state.gaps.get(self.agent_id, {}))


def thing_of(item: stored.Item) -> Thing:
    """Return what this world calls an item of the server's."""
    if isinstance(item, stored.Sample):
        return Thing(SAMPLE, item.at_ms)
    assert isinstance(item, stored.CheckResult)
    return Thing("check_result", item.ran_at_ms)


def at_once(waiting: Coroutine[Any, Any, _ResultT]) -> _ResultT:
    """Run what never really waits."""
    try:
        waiting.send(None)
    except StopIteration as done:
        result: _ResultT = done.value
        return result
    raise AssertionError("it waited")


class Agent:
    """A process and its data directory. What `courier` does with an outbox, one step at a time."""

    def __init__(self, world: World, connection: FusedConnection, known: set[Thing]) -> None:
        self.world = world
        self.connection = connection
        self.known = known
        self.installation = world.installations[-1]
        self.connected = False
        self.sent: list[Batch] = []
        """On their way on the present stream."""
        self.answers: list[BatchAck] = []
        self.steps: Counter[Step] = Counter()
        self.outbox = self._start()

    def _start(self) -> Outbox:
        began = self.world.now_ms
        return Outbox(
            self.connection,
            codec=CODEC,
            limits=self.world.limits,
            new_id=self.world.random_id,
            monotonic=lambda: (self.world.now_ms - began) / 1000,
        )

    def crash_and_start(self) -> None:
        """End as a killed process does, and start again."""
        self.hang_up()
        if self.connection.in_transaction:
            self.connection.rollback()
        self.outbox = self._start()

    def hang_up(self) -> None:
        """Lose the stream: what is under way may still arrive, answers will not."""
        self.connected = False
        self.world.stray += [
            (self.installation, self.installation.store_number, batch) for batch in self.sent
        ]
        self.sent, self.answers = [], []

    def connect(self) -> None:
        """Open a stream to the installation of now, and compare."""
        self.hang_up()
        self.installation = self.world.installations[-1]
        asked_about = self.outbox.position.outbox_id
        found = self.installation.position(asked_about)
        self._compare(Theirs(asked_about, found.seq, found.digest, *self._server()))
        self.connected = True

    def put(self, count: int) -> None:
        """Keep results and samples; they are this directory's from now on."""
        things = [self.world.new_thing() for _ in range(count)]
        entries = [entry for thing in things for entry in entries_of(thing, self.world.random_output())]
        self.outbox.put(entries, durable=True)
        self.known.update(things)

    def send(self) -> None:
        """Send what is to be sent, if nothing is under way."""
        if self.connected and not self.sent and not self.answers:
            batch = self.outbox.next_batch(self.world.room, START_MS + 365 * DAY_MS, with_samples=True)
            if batch:
                self.sent.append(batch)

    def be_answered(self) -> None:
        """Let the server take what is under way; its answers are under way then."""
        self.answers += [self.installation.store(batch) for batch in self.sent]
        self.sent = []

    def hear(self) -> None:
        """Take the answers."""
        answers, self.answers = self.answers, []
        for ack in answers:
            if ack.verdict is Verdict.MISMATCH:
                self._compare(Theirs(ack.outbox_id, ack.stored_seq, ack.stored_digest, *self._server()))
            else:
                self.outbox.stored(ack, self.world.now_ms)

    def drain(self) -> None:
        """Bring home all there is, on a network without faults."""
        self.connect()
        for _ in range(500):
            self.send()
            if not self.sent:
                return
            self.be_answered()
            self.hear()
        raise AssertionError("it never drains")

    def copy(self) -> Directory:
        """Copy the data directory, as a backup does."""
        return Directory(self.connection.serialize(), frozenset(self.known))

    def _compare(self, theirs: Theirs) -> None:
        self.steps[self.outbox.compare(theirs)] += 1

    def _server(self) -> tuple[bytes, str]:
        return self.installation.store_id, self.installation.agent_id


def entries_of(thing: Thing, output: str) -> list[Entry]:
    """Return the entries of an item."""
    if thing.type == SAMPLE:
        return entries_of_samples([TimedSample("up.seconds", thing.at_ms, 1.0, "s")], CODEC)
    result = CheckResult(f"check {thing.at_ms}", CheckStatus.PASS, output, 1, thing.at_ms)
    entry = entry_of_result(result, CODEC, thing.at_ms)
    assert entry.lane is Lane.RESULTS
    return [entry]


class World:
    """Everything there is."""

    def __init__(self, seed: int, limits: Limits = PLENTY, room: Room | None = None) -> None:
        self.random = random.Random(seed)
        self.limits = limits
        self.room = room or Room(200 if limits is PLENTY else 10_000, 100_000)
        self.now_ms = START_MS
        self._numbers = itertools.count()
        self.installations = [Installation("a")]
        self.lost_elsewhere: set[Thing] = set()
        """What an installation had lost when its agents left it."""
        self.stray: list[tuple[Installation, int, Batch]] = []
        """Batches of streams that are gone, and the store they were sent to."""
        self.agents = [Agent(self, fused_connection(), set())]

    def random_id(self) -> bytes:
        """Return an outbox id."""
        return self.random.randbytes(16)

    def random_output(self) -> str:
        """Return what a check prints: long where space is short."""
        return self.random.randbytes(20 if self.limits is PLENTY else 4_000).hex()

    def new_thing(self) -> Thing:
        """Return an item that has not been before."""
        at_ms = START_MS + next(self._numbers)
        return Thing(SAMPLE if self.random.random() < 0.6 else "check_result", at_ms)

    @property
    def server(self) -> Installation:
        """The installation that agents are sent to now."""
        return self.installations[-1]

    def commit_stray(self) -> None:
        """Let a batch of a stream that is gone arrive after all, unless its store is gone as well."""
        if self.stray:
            installation, store_number, batch = self.stray.pop(self.random.randrange(len(self.stray)))
            if installation.store_number == store_number:
                installation.store(batch)

    def restore_server(self) -> None:
        """Take the server back to one of its backups; streams end."""
        for agent in self.agents:
            agent.hang_up()
        if self.server.backups:
            at = self.random.randrange(len(self.server.backups))
            self.server.restore(self.server.backups[at])
            del self.server.backups[at + 1 :]

    def move(self) -> None:
        """Send the agents to another installation."""
        for agent in self.agents:
            agent.hang_up()
        self.lost_elsewhere |= set(self.server.writes) - self.server.things()
        self.installations.append(Installation("b"))

    def judge(self) -> None:
        """Everything that is known is stored or said to be missing."""
        held = set().union(*(installation.things() for installation in self.installations))
        gaps = [gap for installation in self.installations for gap in installation.gaps()]
        for agent in self.agents:
            missing = agent.known - held - self.lost_elsewhere
            for thing in missing:
                assert any(
                    gap.type == thing.type and gap.from_ms <= thing.at_ms <= gap.to_ms for gap in gaps
                ), f"lost in silence: {thing}; {gaps}"
            for type_, count in Counter(thing.type for thing in missing).items():
                said = sum(gap.count for gap in gaps if gap.type == type_)
                assert count <= said, f"{count} of {type_} are missing, {said} are said to be"

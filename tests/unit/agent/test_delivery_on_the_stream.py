"""Batches between heartbeats: what is sent when, played from memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest

from ct_ops_agent.batches import Batch, BatchAck, Position, Verdict, Welcome
from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import (
    DELIVERY,
    Challenge,
    HeartbeatFrame,
    HeartbeatReply,
    Hello,
    Registration,
    RegistrationReply,
    RenewalAsk,
    Renewed,
    Route,
)
from ct_ops_agent.conversation_parts import Acknowledgement, HeartbeatParts, Speaker
from ct_ops_agent.errors import AgentError, UnreachableError
from ct_ops_agent.heartbeat import Heartbeat
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.secret import Secret
from ct_ops_agent.vitals import Vitals
from ct_ops_agent.work import InventoryChunk, Query, Work

FACTS = HostFacts("host", "linux", "amd64", "Debian", "boot")
IDENTITY = Identity("agent-1", Secret("ey.J.x"), KeyPair(bytes(32), bytes(32)), "leaf", "ca", 0)
ROUTE = Route(("server:1",), "roots")
POSITION = Position(b"o" * 16, 3, b"d" * 16, b"s" * 16)
WELCOME = Welcome(b"s" * 16, 3, b"d" * 16, 65536)
FIRST = HeartbeatReply(1000.0, features=(DELIVERY,), welcome=WELCOME)
REPLY = HeartbeatReply(1000.0)
BATCH = Batch(b"o" * 16, 4, b"payload")
ACK = HeartbeatReply(1000.0, batch_ack=BatchAck(b"o" * 16, 4, b"d", Verdict.STORED))
PUSHED = HeartbeatReply(None, work=Work(queries=(Query("q", "list_ports"),)))


@dataclass
class Deliveries:
    """What there is to deliver, as the test says; writes down what it hears."""

    position: Position | None = POSITION
    batches: asyncio.Queue[Batch | None] = field(default_factory=asyncio.Queue)
    heard: list[object] = field(default_factory=list)
    carried: bytes = b""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_until_heard(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.heard) < count:
                self.news.clear()
                await self.news.wait()

    def _hear(self, what: object) -> None:
        self.heard.append(what)
        self.news.set()

    def begin(self, welcome: Welcome | None, agent_id: str) -> None:
        self._hear((welcome, agent_id))

    async def next_batch(self) -> Batch | None:
        return await self.batches.get()

    def answered(self, ack: BatchAck) -> None:
        self._hear(ack)

    def heartbeat_answered(self) -> None:
        self._hear("heartbeat")

    def take_carried(self) -> bytes:
        carried, self.carried = self.carried, b""
        return carried


@dataclass
class Quiet:
    """Nothing to renew, pin, look at or do."""

    fingerprint: str = ""
    taken: list[Work] = field(default_factory=list)

    async def read(self) -> Vitals:
        return Vitals(1.0, 2.0, 3.0, 4, (), ())

    def ask(self, _identity: Identity) -> RenewalAsk | None:
        return None

    def csr_if_leaf_is_due(self, _identity: Identity) -> bytes | None:
        return None

    def request_rotation(self) -> None:
        raise AssertionError("the server wants no other key")

    def keep(self, _pem: str) -> None:
        raise AssertionError("nothing is pinned")


@dataclass
class Stream:
    """A server's end: the test answers."""

    frames: list[HeartbeatFrame | Batch] = field(default_factory=list)
    queue: asyncio.Queue[HeartbeatReply | AgentError] = field(default_factory=asyncio.Queue)
    sent: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(self, frame: HeartbeatFrame) -> None:
        await self._note(frame)

    async def send_batch(self, agent_id: str, batch: Batch) -> None:
        assert IDENTITY.agent_id == agent_id
        await self._note(batch)

    async def _note(self, frame: HeartbeatFrame | Batch) -> None:
        async with self.sent:
            self.frames.append(frame)
            self.sent.notify_all()

    async def wait_for_frames(self, count: int) -> None:
        async with asyncio.timeout(30), self.sent:
            await self.sent.wait_for(lambda: len(self.frames) >= count)

    def kinds(self) -> list[str]:
        return ["batch" if isinstance(frame, Batch) else "heartbeat" for frame in self.frames]

    async def receive(self) -> HeartbeatReply:
        reply = await self.queue.get()
        if isinstance(reply, AgentError):
            raise reply
        return reply

    async def finish(self) -> None:
        pass

    def open_heartbeat(self) -> Stream:
        return self

    async def renew_certificate(self, _agent_id: str, _csr_der: bytes) -> Renewed:
        raise AssertionError("nothing is due")

    async def upload_inventory(self, _identity: Identity, _chunks: Iterable[InventoryChunk]) -> int:
        raise AssertionError("nothing is uploaded")

    async def challenge(self, _public_key_pem: str) -> Challenge | None:
        raise AssertionError("a heartbeat never registers")

    async def server_certificate(self) -> bytes:
        raise AssertionError("a heartbeat never registers")

    async def register(self, _registration: Registration) -> RegistrationReply:
        raise AssertionError("a heartbeat never registers")

    @asynccontextmanager
    async def connect(self, route: Route, identity: Identity | None) -> AsyncIterator[Stream]:
        assert (ROUTE, IDENTITY) == (route, identity)
        yield self


@dataclass
class Play:
    """A running stream."""

    stream: Stream
    delivery: Deliveries
    due: asyncio.Event
    running: asyncio.Task[None]
    acknowledged: list[Acknowledgement]

    def say(self, *replies: HeartbeatReply | AgentError) -> None:
        for reply in replies:
            self.stream.queue.put_nowait(reply)

    async def end(self) -> None:
        self.say(UnreachableError("gone"))
        with suppress(AgentError):
            await self.running


class Events:
    """Written down."""

    def __init__(self, acknowledged: list[Acknowledgement]) -> None:
        self._acknowledged = acknowledged

    def acknowledged(self, news: Acknowledgement) -> None:
        self._acknowledged.append(news)

    def renewed(self, _identity: Identity) -> None:
        raise AssertionError("nothing is renewed")

    def trusts(self, _roots_pem: str) -> None:
        raise AssertionError("nothing is announced")


@pytest.fixture
async def play() -> AsyncIterator[Play]:
    """A stream whose first frame was sent."""
    stream, delivery, due, quiet = Stream(), Deliveries(), asyncio.Event(), Quiet()
    acknowledged: list[Acknowledgement] = []
    parts = HeartbeatParts(
        vitals=quiet,
        speaker=Speaker("1.0", FACTS, Hello("boot", "process", 30)),
        renewal=quiet,  # type: ignore[arg-type]  # never takes anything
        pin=quiet,
        due=due,
        clock=Clock(wall=lambda: 1000.0),
        delivery=delivery,
        reply_deadline_s=0.2,
    )
    running = asyncio.create_task(Heartbeat(stream.connect, parts).run(ROUTE, IDENTITY, Events(acknowledged)))
    await stream.wait_for_frames(1)
    yield Play(stream, delivery, due, running, acknowledged)
    running.cancel()
    await asyncio.wait({running})


async def test_the_first_frame_says_where_the_outbox_is(play: Play) -> None:
    """And carries no result: whom it speaks to is not known yet."""
    play.delivery.carried = b"too early"
    play.say(FIRST)
    await play.end()

    frame = play.stream.frames[0]
    assert isinstance(frame, HeartbeatFrame)
    assert frame.hello is not None
    assert (POSITION, b"") == (frame.hello.position, frame.items)
    assert (WELCOME, "agent-1") == play.delivery.heard[0]


async def test_a_server_without_the_feature_takes_no_batches(play: Play) -> None:
    """Its welcome counts for nothing; results ride in the next frame."""
    play.say(replace(FIRST, features=("renewal",)))
    play.delivery.carried = b"results"
    play.due.set()
    await play.stream.wait_for_frames(2)
    await play.end()

    frame = play.stream.frames[1]
    assert isinstance(frame, HeartbeatFrame)
    assert b"results" == frame.items
    assert (None, "agent-1") == play.delivery.heard[0]


async def test_a_batch_travels_between_heartbeats(play: Play) -> None:
    """And the next one waits for its answer."""
    play.say(FIRST)
    play.delivery.batches.put_nowait(BATCH)
    play.delivery.batches.put_nowait(replace(BATCH, seq=5))
    await play.stream.wait_for_frames(2)
    assert ["heartbeat", "batch"] == play.stream.kinds()

    play.say(ACK)
    await play.stream.wait_for_frames(3)
    await play.end()

    assert ["heartbeat", "batch", "batch"] == play.stream.kinds()
    assert ACK.batch_ack in play.delivery.heard


async def test_a_heartbeat_that_is_due_waits_for_no_batch(play: Play) -> None:
    """It is sent while the batch's answer is outstanding, and the batch's answer is not taken for its own."""
    play.say(FIRST)
    play.delivery.batches.put_nowait(BATCH)
    await play.stream.wait_for_frames(2)
    play.due.set()
    await play.stream.wait_for_frames(3)
    play.say(ACK, PUSHED)
    await play.delivery.wait_until_heard(3)
    assert 1 == len(play.acknowledged)

    play.say(REPLY)
    await play.delivery.wait_until_heard(4)
    await play.end()

    assert ["heartbeat", "batch", "heartbeat"] == play.stream.kinds()
    assert [(WELCOME, "agent-1"), "heartbeat", ACK.batch_ack, "heartbeat"] == play.delivery.heard


async def test_results_for_an_existing_server_may_ask_for_a_frame_at_once(play: Play) -> None:
    """Somebody waits for the answer to a query."""
    play.say(HeartbeatReply(None))
    play.delivery.carried = b"answer"
    play.delivery.batches.put_nowait(None)
    await play.stream.wait_for_frames(2)
    await play.end()

    assert ["heartbeat", "heartbeat"] == play.stream.kinds()


async def test_a_batch_that_is_never_answered_ends_the_stream(play: Play) -> None:
    """A server that answers heartbeats only is not waited for for ever."""
    play.say(FIRST)
    play.delivery.batches.put_nowait(BATCH)

    async with asyncio.timeout(30):
        with pytest.raises(UnreachableError, match="did not answer a batch"):
            await play.running

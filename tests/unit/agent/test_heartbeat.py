"""The dialogue on a heartbeat stream, played from memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest

from ct_ops_agent.batches import Batch
from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import (
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
from ct_ops_agent.renewal import UnusableRenewalError
from ct_ops_agent.samples import CollectorState
from ct_ops_agent.secret import Secret
from ct_ops_agent.vitals import Vitals
from ct_ops_agent.work import InventoryChunk, Link, Query, Work

FACTS = HostFacts("host", "linux", "amd64", "Debian", "boot")
VITALS = Vitals(1.0, 2.0, 3.0, 4, (), ())
IDENTITY = Identity("agent-1", Secret("ey.J.x"), KeyPair(bytes(32), bytes(32)), "leaf", "ca", 0)
ROUTE = Route(("server:1",), "roots")
HELLO = Hello("boot", "process", 30)
REPLY = HeartbeatReply(None, ())


@dataclass
class Renewals:
    """What is due, as the test says."""

    asks: list[RenewalAsk] = field(default_factory=list)
    csr: bytes | None = None
    by_call: Renewed | None = None
    unusable: bool = False
    taken: list[Renewed] = field(default_factory=list)
    hurried: int = 0

    def ask(self, identity: Identity) -> RenewalAsk | None:
        del identity
        return self.asks.pop(0) if self.asks else None

    def csr_if_leaf_is_due(self, identity: Identity) -> bytes | None:
        del identity
        due, self.csr = self.csr, None
        return due

    def hurry(self) -> None:
        self.hurried += 1

    def request_rotation(self) -> None:
        raise AssertionError("the server wants no other key")

    def take(self, identity: Identity, renewed: Renewed) -> Identity:
        if self.unusable:
            raise UnusableRenewalError("not ours")
        self.taken.append(renewed)
        leaf_pem = renewed.leaf_pem or identity.leaf_pem
        return replace(identity, leaf_pem=leaf_pem, agent_token=renewed.agent_token)


@dataclass
class Pin:
    """A pinned certificate."""

    fingerprint: str = "f" * 64
    kept: list[str] = field(default_factory=list)

    def keep(self, pem: str) -> None:
        self.kept.append(pem)


@dataclass
class Worker:
    """Writes down what is asked."""

    heard: list[object] = field(default_factory=list)
    link: Link | None = None

    def connected(self, link: Link) -> None:
        self.link = link
        self.heard.append(link.features)

    def take(self, work: Work) -> None:
        self.heard.append(work)

    def disconnected(self) -> None:
        self.heard.append("disconnected")


@dataclass
class Collectors:
    """Their states, as the test says."""

    said: list[tuple[CollectorState, ...]]

    def states(self) -> tuple[CollectorState, ...]:
        return self.said.pop(0) if len(self.said) > 1 else self.said[0]


@dataclass
class Stream:
    """A server's end of a stream: answers from a script, then silence."""

    replies: list[HeartbeatReply | AgentError]
    frames: list[HeartbeatFrame] = field(default_factory=list)
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    finished: bool = False
    renewal: Renewals = field(default_factory=Renewals)
    pin: Pin = field(default_factory=Pin)
    calls: list[bytes] = field(default_factory=list)
    worker: Worker = field(default_factory=Worker)
    collectors: Collectors | None = None

    def __post_init__(self) -> None:
        self.queue: asyncio.Queue[HeartbeatReply | AgentError] = asyncio.Queue()

    async def send(self, frame: HeartbeatFrame) -> None:
        self.frames.append(frame)
        self.sent.set()
        if self.replies:
            self.queue.put_nowait(self.replies.pop(0))

    async def send_batch(self, _agent_id: str, _batch: Batch) -> None:
        raise AssertionError("nothing is delivered here")

    async def receive(self) -> HeartbeatReply:
        reply = await self.queue.get()
        if isinstance(reply, AgentError):
            raise reply
        return reply

    async def finish(self) -> None:
        self.finished = True

    # A session of one stream, and what opens it.

    def open_heartbeat(self) -> "Stream":
        return self

    async def renew_certificate(self, agent_id: str, csr_der: bytes) -> Renewed:
        assert IDENTITY.agent_id == agent_id
        self.calls.append(csr_der)
        if not self.renewal.by_call:
            raise UnreachableError("away")
        return self.renewal.by_call

    async def upload_inventory(self, identity: Identity, chunks: Iterable[InventoryChunk]) -> int:
        return len(list(chunks)) if identity.agent_token.reveal() == "new.J.x" else 0

    async def challenge(self, _public_key_pem: str) -> Challenge | None:
        raise AssertionError("a heartbeat never registers")

    async def server_certificate(self) -> bytes:
        raise AssertionError("a heartbeat never registers")

    async def register(self, _registration: Registration) -> RegistrationReply:
        raise AssertionError("a heartbeat never registers")

    @asynccontextmanager
    async def connect(self, route: Route, identity: Identity | None) -> AsyncIterator["Stream"]:
        assert (ROUTE, IDENTITY) == (route, identity)
        yield self


class Look:
    """A host that is always the same."""

    async def read(self) -> Vitals:
        return VITALS


def heartbeat(
    stream: Stream, due: asyncio.Event, *, now: float = 1000.0, deadline_s: float = 5.0
) -> Heartbeat:
    parts = HeartbeatParts(
        vitals=Look(),
        speaker=Speaker("1.0", FACTS, HELLO),
        renewal=stream.renewal,
        pin=stream.pin,
        due=due,
        clock=Clock(wall=lambda: now),
        works=stream.worker,
        collectors=stream.collectors,
        reply_deadline_s=deadline_s,
    )
    return Heartbeat(stream.connect, parts)


@dataclass
class Events:
    """Written down."""

    acknowledgements: list[Acknowledgement] = field(default_factory=list)
    identities: list[Identity] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)

    def acknowledged(self, news: Acknowledgement) -> None:
        self.acknowledgements.append(news)

    def renewed(self, identity: Identity) -> None:
        self.identities.append(identity)

    def trusts(self, roots_pem: str) -> None:
        self.roots.append(roots_pem)


async def run_until_error(beat: Heartbeat) -> int:
    """Run a stream to its end and return how many heartbeats were acknowledged."""
    events = Events()
    with suppress(AgentError):
        await beat.run(ROUTE, IDENTITY, events)
    return len(events.acknowledgements)


async def test_the_first_frame_carries_the_agent_token_and_the_hello() -> None:
    """Later frames carry the agent id and no hello."""
    stream, due = Stream([REPLY, UnreachableError("gone")]), asyncio.Event()
    running = asyncio.create_task(run_until_error(heartbeat(stream, due)))
    await stream.sent.wait()
    await asyncio.sleep(0)
    due.set()

    assert 1 == await running
    assert [("ey.J.x", HELLO), ("agent-1", None)] == [(frame.speaker, frame.hello) for frame in stream.frames]
    assert (VITALS, FACTS, 1000) == (
        stream.frames[0].vitals,
        stream.frames[0].facts,
        stream.frames[0].sent_at_unix,
    )
    assert stream.finished


async def test_a_frame_shows_no_agent_token() -> None:
    """A frame in a log or a traceback is harmless."""
    stream = Stream([REPLY])
    await heartbeat(stream, asyncio.Event()).once(ROUTE, IDENTITY)

    assert "ey.J.x" not in repr(stream.frames[0])


async def test_a_reply_that_does_not_come_ends_the_stream() -> None:
    """A half-dead connection is not waited for."""
    with pytest.raises(UnreachableError, match="did not answer"):
        await heartbeat(Stream([]), asyncio.Event(), deadline_s=0.01).once(ROUTE, IDENTITY)


async def test_an_error_between_heartbeats_is_noticed_at_once() -> None:
    """A revoked agent does not wait for its next interval to hear of it."""
    stream = Stream([REPLY])
    stream.replies.append(REPLY)
    running = asyncio.create_task(heartbeat(stream, asyncio.Event()).run(ROUTE, IDENTITY, Events()))
    await stream.sent.wait()

    stream.queue.put_nowait(UnreachableError("cut"))

    async with asyncio.timeout(30):
        with pytest.raises(UnreachableError, match="cut"):
            await running


async def test_a_stop_between_heartbeats_says_goodbye() -> None:
    """Cancelling finishes the stream and leaves no task behind."""
    stream = Stream([REPLY])
    running = asyncio.create_task(heartbeat(stream, asyncio.Event()).run(ROUTE, IDENTITY, Events()))
    await stream.sent.wait()
    await asyncio.sleep(0)

    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert stream.finished


@pytest.mark.parametrize(
    ("server_time", "said"),
    [
        (1000.0, ""),
        (1059.0, ""),
        (1100.0, "100 s behind the server's"),
        (900.0, "100 s ahead of the server's"),
    ],
)
async def test_a_clock_that_is_off_is_told(
    server_time: float, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """More than a minute between host and server is worth a line."""
    stream = Stream([HeartbeatReply(server_time, ())])

    await heartbeat(stream, asyncio.Event(), now=1000.0).once(ROUTE, IDENTITY)

    assert said in caplog.text
    assert bool(said) == ("clock" in caplog.text)


async def beat_along(stream: Stream) -> Events:
    """Let heartbeats be due at once until the stream ends, by itself or by an error."""
    due, events = asyncio.Event(), Events()
    running = asyncio.ensure_future(heartbeat(stream, due).run(ROUTE, IDENTITY, events))
    async with asyncio.timeout(30):
        while not running.done():
            due.set()
            await asyncio.sleep(0)
        with suppress(AgentError):
            await running
    return events


OURS = HeartbeatReply(1010.0, (), features=("renewal",))
GONE = UnreachableError("gone")
NEW_TOKEN = Renewed(Secret("new.J.x"))
NEW_LEAF = Renewed(Secret("new.J.x"), "new leaf", 99)


async def test_the_skew_is_reported_from_the_second_frame_on() -> None:
    """As it was measured at the reply before; the pinned certificate's fingerprint goes with every frame."""
    stream = Stream([OURS, OURS, GONE])
    events = await beat_along(stream)

    assert [None, -10_000, -10_000] == [frame.clock_skew_ms for frame in stream.frames]
    assert ["f" * 64] * 3 == [frame.pinned_fingerprint for frame in stream.frames]
    assert [Acknowledgement(("renewal",), -10.0)] * 2 == events.acknowledgements


async def test_a_new_token_is_taken_without_ending_the_stream() -> None:
    """The next connection uses it."""
    stream = Stream([OURS, replace(OURS, renewed=NEW_TOKEN), OURS, GONE])
    stream.renewal.asks = [RenewalAsk(b"")]
    events = await beat_along(stream)

    assert [None, RenewalAsk(b""), None, None] == [frame.renewal for frame in stream.frames]
    assert [NEW_TOKEN] == stream.renewal.taken
    assert [replace(IDENTITY, agent_token=NEW_TOKEN.agent_token)] == events.identities


async def test_a_new_leaf_ends_the_stream_in_peace() -> None:
    """After its frame was acknowledged: nothing is lost, and `run` returns instead of failing."""
    stream = Stream([OURS, replace(OURS, renewed=NEW_LEAF)])
    stream.renewal.asks = [RenewalAsk(b"csr")]
    events = await beat_along(stream)

    assert 2 == len(events.acknowledgements)
    assert ["new leaf"] == [identity.leaf_pem for identity in events.identities]
    assert stream.finished


async def test_an_existing_server_is_asked_by_its_own_call_and_the_stream_goes_on() -> None:
    """A new connection there may cost the agent token: the leaf waits for the next one."""
    stream = Stream([REPLY, REPLY, REPLY, GONE])
    stream.renewal.csr, stream.renewal.by_call = b"csr", NEW_LEAF
    events = await beat_along(stream)

    assert [b"csr"] == stream.calls
    assert ["new leaf"] == [identity.leaf_pem for identity in events.identities]
    assert 3 == len(events.acknowledgements)


async def test_a_renewal_that_fails_ends_no_stream() -> None:
    """Neither a call that is not answered nor a certificate for somebody else."""
    unanswered = Stream([REPLY, REPLY, REPLY, GONE])
    unanswered.renewal.csr = b"csr"
    unusable = Stream([OURS, replace(OURS, renewed=NEW_LEAF), OURS, GONE])
    unusable.renewal.unusable = True

    assert [3, 3] == [len((await beat_along(each)).acknowledgements) for each in (unanswered, unusable)]


async def test_a_pushed_https_certificate_is_pinned() -> None:
    """Also between two heartbeats."""
    stream = Stream([replace(REPLY, server_certificate_pem="pem"), REPLY, GONE])
    await beat_along(stream)

    assert ["pem"] == stream.pin.kept


PORTS = Work(queries=(Query("q1", "list_ports"),))


async def test_what_the_server_asks_for_is_handed_on() -> None:
    """In the first reply, in later ones, and in what is pushed; the link comes first, the end last."""
    stream = Stream([replace(OURS, work=PORTS), OURS, replace(OURS, work=Work(checks=())), GONE])
    await beat_along(stream)

    assert [("renewal",), PORTS, Work(checks=()), "disconnected"] == stream.worker.heard


async def test_a_stream_that_was_not_welcomed_is_no_link() -> None:
    """Work hears nothing of attempts to connect."""
    stream = Stream([GONE])
    await beat_along(stream)

    assert [] == stream.worker.heard


async def test_an_upload_uses_the_newest_agent_token() -> None:
    """A long stream's first token may have expired."""
    stream = Stream([OURS, replace(OURS, renewed=NEW_TOKEN), OURS, GONE])
    stream.renewal.asks = [RenewalAsk(b"")]
    await beat_along(stream)

    assert stream.worker.link is not None
    assert 2 == await stream.worker.link.upload_inventory(
        [InventoryChunk("t", 1, "dpkg", 0, is_last=False, packages=())] * 2
    )


async def test_a_single_heartbeat_takes_no_work() -> None:
    """It would be cut off before it has begun; it is said instead."""
    stream = Stream([replace(OURS, work=PORTS)])
    await heartbeat(stream, asyncio.Event()).once(ROUTE, IDENTITY)

    assert [] == stream.worker.heard


async def test_which_collectors_run_is_said_first_and_when_it_changes() -> None:
    """Not in every frame."""
    works, fails = (CollectorState("cpu", 15.0),), (CollectorState("cpu", 15.0, "no /proc"),)
    stream = Stream([OURS, OURS, OURS, OURS, GONE], collectors=Collectors([works, works, fails]))
    await beat_along(stream)

    assert [works, None, fails, None] == [frame.collectors for frame in stream.frames][:4]

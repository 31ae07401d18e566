"""The dialogue on a heartbeat stream, played from memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import (
    HeartbeatFrame,
    HeartbeatReply,
    Hello,
    Registration,
    RegistrationReply,
    Route,
)
from ct_ops_agent.errors import AgentError, UnreachableError
from ct_ops_agent.heartbeat import Heartbeat, Speaker
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.secret import Secret
from ct_ops_agent.vitals import Vitals

FACTS = HostFacts("host", "linux", "amd64", "Debian", "boot")
VITALS = Vitals(1.0, 2.0, 3.0, 4, (), ())
IDENTITY = Identity("agent-1", Secret("ey.J.x"), KeyPair(bytes(32), bytes(32)), "leaf", "ca", 0)
ROUTE = Route(("server:1",), "roots")
HELLO = Hello("boot", "process", 30)
REPLY = HeartbeatReply(None, ())


@dataclass
class Stream:
    """A server's end of a stream: answers from a script, then silence."""

    replies: list[HeartbeatReply | AgentError]
    frames: list[HeartbeatFrame] = field(default_factory=list)
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    finished: bool = False

    def __post_init__(self) -> None:
        self.queue: asyncio.Queue[HeartbeatReply | AgentError] = asyncio.Queue()

    async def send(self, frame: HeartbeatFrame) -> None:
        self.frames.append(frame)
        self.sent.set()
        if self.replies:
            self.queue.put_nowait(self.replies.pop(0))

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

    async def challenge(self, _public_key_pem: str) -> bytes | None:
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
    return Heartbeat(
        connect=stream.connect,
        vitals=Look(),
        speaker=Speaker("1.0", FACTS, HELLO),
        due=due,
        clock=Clock(wall=lambda: now),
        reply_deadline_s=deadline_s,
    )


async def run_until_error(beat: Heartbeat) -> int:
    """Run a stream to its end and return how many heartbeats were acknowledged."""
    acknowledged = list[int]()
    with suppress(AgentError):
        await beat.run(ROUTE, IDENTITY, lambda: acknowledged.append(1))
    return len(acknowledged)


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
    running = asyncio.create_task(heartbeat(stream, asyncio.Event()).run(ROUTE, IDENTITY, lambda: None))
    await stream.sent.wait()

    stream.queue.put_nowait(UnreachableError("cut"))

    async with asyncio.timeout(5):
        with pytest.raises(UnreachableError, match="cut"):
            await running


async def test_a_stop_between_heartbeats_says_goodbye() -> None:
    """Cancelling finishes the stream and leaves no task behind."""
    stream = Stream([REPLY])
    running = asyncio.create_task(heartbeat(stream, asyncio.Event()).run(ROUTE, IDENTITY, lambda: None))
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
        (1029.0, ""),
        (1100.0, "100 s behind the server's"),
        (900.0, "100 s ahead of the server's"),
    ],
)
async def test_a_clock_that_is_off_is_told(
    server_time: float, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """More than half a minute between host and server is worth a line."""
    stream = Stream([HeartbeatReply(server_time, ())])

    await heartbeat(stream, asyncio.Event(), now=1000.0).once(ROUTE, IDENTITY)

    assert said in caplog.text
    assert bool(said) == ("clock" in caplog.text)

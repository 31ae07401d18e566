"""The heartbeat: due → look at the host → frame → reply.

One stream at a time, opened by :meth:`Heartbeat.run` and ended by an error that names the reaction
(`lifecycle` reacts). On a stream:

* the first frame goes at once and carries the agent token and who is speaking; later frames carry
  the agent id;
* every frame waits for its reply. Servers also push frames unasked and the wire does not tell the
  two apart, so whatever comes first after our frame counts as its reply;
* a reply that does not come in time means a connection that is only half alive: it is dropped;
* a clean stop ends our half of the stream first, so that the server sees a farewell, not a loss.

Work that a server pushes (checks, queries, tasks) is not done by this agent yet, and said so in the
log, once for each kind and stream.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import Connect, HeartbeatFrame, HeartbeatReply, HeartbeatStream, Hello, Route
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.refusals import WORTH_TELLING_SKEW_S, describe_skew
from ct_ops_agent.vitals import Vitals

_log = logging.getLogger(__name__)

REPLY_DEADLINE_S = 30.0


class ReadsVitals(Protocol):
    """Looks at the host."""

    async def read(self) -> Vitals:
        """Return the vitals of this moment."""


@dataclass(frozen=True)
class Speaker:
    """Who this process is, the same in every frame."""

    agent_version: str
    facts: HostFacts
    hello: Hello


class Heartbeat:
    """Reports to the server for as long as a stream lasts."""

    def __init__(
        self,
        *,
        connect: Connect,
        vitals: ReadsVitals,
        speaker: Speaker,
        due: asyncio.Event,
        clock: Clock,
        reply_deadline_s: float = REPLY_DEADLINE_S,
    ) -> None:
        self._connect = connect
        self._vitals = vitals
        self._speaker = speaker
        self._due = due
        self._clock = clock
        self._reply_deadline_s = reply_deadline_s

    async def run(self, route: Route, identity: Identity, on_acknowledged: Callable[[], None]) -> NoReturn:
        """Keep a stream alive until it fails.

        Args:
            route: where to.
            identity: as whom.
            on_acknowledged: called after each heartbeat that the server answered.

        Raises:
            UnreachableError: the connection is gone.
            CredentialRejectedError: the server wants this agent to register again.
            EnrolmentRefusedError: the server wants this agent to stay away.
        """
        async with self._connect(route, identity) as session:
            stream = session.open_heartbeat()
            told: set[str] = set()
            try:
                reply = await self._exchange(stream, await self._first_frame(identity))
                self._greet(reply, told)
                _log.info("connected to %s as agent %s", ", ".join(route.addresses), identity.agent_id)
                on_acknowledged()
                while True:
                    await self._wait_until_due(stream, told)
                    note_unsupported(await self._exchange(stream, await self._frame(identity)), told)
                    on_acknowledged()
            finally:
                await stream.finish()

    async def once(self, route: Route, identity: Identity) -> Vitals:
        """Send one heartbeat, wait until the server has acknowledged it, and return what was said.

        Raises:
            UnreachableError, CredentialRejectedError, EnrolmentRefusedError: as :meth:`run`.
        """
        async with self._connect(route, identity) as session:
            stream = session.open_heartbeat()
            try:
                frame = await self._first_frame(identity)
                self._greet(await self._exchange(stream, frame), set())
                return frame.vitals
            finally:
                await stream.finish()

    async def _exchange(self, stream: HeartbeatStream, frame: HeartbeatFrame) -> HeartbeatReply:
        self._due.clear()
        try:
            async with asyncio.timeout(self._reply_deadline_s):
                await stream.send(frame)
                return await stream.receive()
        except TimeoutError as error:
            raise UnreachableError(
                f"the server did not answer a heartbeat within {self._reply_deadline_s:.0f} s"
            ) from error

    async def _wait_until_due(self, stream: HeartbeatStream, told: set[str]) -> None:
        """Take what the server pushes until the next heartbeat is due."""
        due = asyncio.ensure_future(self._due.wait())
        receiving = asyncio.ensure_future(stream.receive())
        try:
            while not due.done():
                await asyncio.wait({due, receiving}, return_when=asyncio.FIRST_COMPLETED)
                if receiving.done():
                    note_unsupported(receiving.result(), told)
                    receiving = asyncio.ensure_future(stream.receive())
        finally:
            due.cancel()
            receiving.cancel()

    async def _first_frame(self, identity: Identity) -> HeartbeatFrame:
        frame = await self._frame(identity)
        return replace(frame, speaker=identity.agent_token.reveal(), hello=self._speaker.hello)

    async def _frame(self, identity: Identity) -> HeartbeatFrame:
        return HeartbeatFrame(
            speaker=identity.agent_id,
            sent_at_unix=int(self._clock.wall()),
            agent_version=self._speaker.agent_version,
            facts=self._speaker.facts,
            vitals=await self._vitals.read(),
        )

    def _greet(self, reply: HeartbeatReply, told: set[str]) -> None:
        note_unsupported(reply, told)
        if reply.server_time_unix is None:
            return
        skew_s = self._clock.wall() - reply.server_time_unix
        if abs(skew_s) >= WORTH_TELLING_SKEW_S:
            _log.warning("%s", describe_skew(skew_s))


def note_unsupported(reply: HeartbeatReply, told: set[str]) -> None:
    """Log each kind of pushed work that is not done, once for a set of kinds already told."""
    for kind in reply.unsupported_work:
        if kind not in told:
            told.add(kind)
            _log.warning("the server asks for %s, which this version of the agent does not do", kind)

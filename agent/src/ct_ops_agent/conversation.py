"""One conversation on a heartbeat stream, from its first frame on.

* the first frame goes at once and carries the agent token and who is speaking; later frames carry
  the agent id;
* every frame waits for its reply. Servers also push frames unasked. Ours tell the time in replies only;
  with existing ones the wire does not tell the two apart, so whatever comes first after our frame counts;
* a reply that does not come in time means a connection that is only half alive: it is dropped;
* batches travel between heartbeats, in frames of their own, one at a time (`delivery.courier`). A heartbeat
  waits for none of their answers;
* credentials are renewed beside frames (`renewal`), clocks compared at every reply that tells a time.

What a server asks for is handed to `work.Works`, which never waits for it; what this agent does not do at
all is said in the log, once for each kind and stream. Opening and ending the stream is `heartbeat`'s.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from ct_ops_agent.anchors import StreamAnchors
from ct_ops_agent.control_plane import (
    DELIVERY,
    HeartbeatFrame,
    HeartbeatReply,
    HeartbeatStream,
    Renewed,
    Session,
)
from ct_ops_agent.conversation_parts import Acknowledgement, HeartbeatParts, StreamEvents
from ct_ops_agent.errors import AgentError, DataDirectoryError, UnreachableError
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.link import StreamLink, note_undone
from ct_ops_agent.refusals import WORTH_TELLING_SKEW_S, describe_skew
from ct_ops_agent.renewal import FEATURE, UnusableRenewalError
from ct_ops_agent.samples import CollectorState
from ct_ops_agent.vitals import Vitals

_log = logging.getLogger(__name__)


class Conversation:
    """One stream, from its first frame on."""

    def __init__(
        self,
        parts: HeartbeatParts,
        session: Session,
        stream: HeartbeatStream,
        identity: Identity,
        events: StreamEvents,
        *,
        anchors: StreamAnchors,
    ) -> None:
        self._parts = parts
        self._anchors = anchors
        self._announced: tuple[bytes, ...] | None = None
        self._heard_last: tuple[bytes, ...] | None = None
        self._session = session
        self._stream = stream
        self._identity = identity
        self._events = events
        self._features: tuple[str, ...] = ()
        self._reported: tuple[CollectorState, ...] | None = None
        self._skew_s: float | None = None
        self._told: set[str] = set()
        self._delivering: asyncio.Task[None] | None = None
        self._batch_answered = asyncio.Event()
        self.wants_new_connection = False
        """A new leaf is there, and only a new connection can present it."""

    async def open(self) -> Vitals:
        """Send the first frame; return what was said once it is acknowledged."""
        frame = await self._frame()
        token = self._identity.agent_token.reveal()
        hello = replace(self._parts.speaker.hello, position=self._parts.delivery.position)
        frame = replace(frame, speaker=token, hello=hello)
        reply = await self._exchange(frame)
        self._features = reply.features
        welcome = reply.welcome if DELIVERY in reply.features else None
        self._parts.delivery.begin(welcome, self._identity.agent_id)
        self._delivering = asyncio.create_task(self._deliver(), name="delivery")
        self._parts.works.connected(StreamLink(self._features, self._session, lambda: self._identity))
        self._take(reply)
        self._acknowledged()
        return frame.vitals

    async def close(self) -> None:
        """End what began with the stream, if it ever was answered."""
        if self._delivering:
            self._delivering.cancel()
            await asyncio.wait({self._delivering})
            self._parts.works.disconnected()

    async def beat(self) -> None:
        """Send a frame, with a wish for new credentials when they are due, and take the reply."""
        await self._learn_anchors()
        frame = replace(await self._frame(), items=self._parts.delivery.take_carried())
        if FEATURE in self._features:
            frame = replace(frame, renewal=self._parts.renewal.ask(self._identity))
        self._take(await self._exchange(frame))
        self._acknowledged()
        if FEATURE not in self._features:
            await self._renew_by_call()

    async def wait_until_due(self) -> None:
        """Take what the server pushes until the next heartbeat is due."""
        assert self._delivering, "the stream was opened"
        due = asyncio.ensure_future(self._parts.due.wait())
        receiving = asyncio.ensure_future(self._stream.receive())
        try:
            while not due.done():
                await asyncio.wait({due, receiving, self._delivering}, return_when=asyncio.FIRST_COMPLETED)
                if receiving.done():
                    self._take(receiving.result())
                    receiving = asyncio.ensure_future(self._stream.receive())
                if self._delivering.done():
                    self._delivering.result()
        finally:
            due.cancel()
            receiving.cancel()

    async def _deliver(self) -> None:
        """Send one batch after the other, each when the one before was answered."""
        delivery, patience_s = self._parts.delivery, 2 * self._parts.reply_deadline_s
        while True:
            batch = await delivery.next_batch()
            if batch is None:
                self._parts.due.set()
                continue
            self._batch_answered.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._stream.send_batch(self._identity.agent_id, batch)
                    await self._batch_answered.wait()
            except TimeoutError as error:
                raise UnreachableError(
                    f"the server did not answer a batch within {patience_s:.0f} s"
                ) from error

    async def _exchange(self, frame: HeartbeatFrame) -> HeartbeatReply:
        wall, deadline_s = self._parts.clock.wall, self._parts.reply_deadline_s
        self._parts.due.clear()
        sent_unix = wall()
        try:
            async with asyncio.timeout(deadline_s):
                await self._stream.send(frame)
                while not self._answers_heartbeat(reply := await self._stream.receive()):
                    self._take(reply)
        except TimeoutError as error:
            raise UnreachableError(
                f"the server did not answer a heartbeat within {deadline_s:.0f} s"
            ) from error
        if reply.server_time_unix is not None:
            self._compare_clocks((sent_unix + wall()) / 2 - reply.server_time_unix)
        return reply

    def _answers_heartbeat(self, reply: HeartbeatReply) -> bool:
        if reply.batch_ack is not None:
            return False
        return DELIVERY not in self._features or reply.server_time_unix is not None

    async def _frame(self) -> HeartbeatFrame:
        speaker = self._parts.speaker
        return HeartbeatFrame(
            speaker=self._identity.agent_id,
            sent_at_unix=int(self._parts.clock.wall()),
            agent_version=speaker.agent_version,
            facts=speaker.facts,
            vitals=await self._parts.vitals.read(),
            clock_skew_ms=None if self._skew_s is None else round(self._skew_s * 1000),
            pinned_fingerprint=self._parts.pin.fingerprint,
            collectors=self._news_of_collectors(),
            anchors=self._anchors.report(),
        )

    def _news_of_collectors(self) -> tuple[CollectorState, ...] | None:
        """Return which collectors run, when this stream has not been told so yet."""
        states = self._parts.collectors.states() if self._parts.collectors else None
        if states == self._reported:
            return None
        self._reported = states
        return states

    def _acknowledged(self) -> None:
        self._parts.delivery.heartbeat_answered()
        self._events.acknowledged(Acknowledgement(self._features, self._skew_s))

    def _take(self, reply: HeartbeatReply) -> None:
        note_undone(reply.unsupported_work, self._told)
        if reply.batch_ack:
            self._parts.delivery.answered(reply.batch_ack)
            self._batch_answered.set()
        if reply.work:
            self._parts.works.take(reply.work)
        if reply.server_certificate_pem:
            self._parts.pin.keep(reply.server_certificate_pem)
        if reply.renew_leaf:
            self._parts.renewal.hurry()
            self._parts.due.set()
        if reply.anchors is not None:
            self._hear_announcement(reply.anchors)
        if reply.renewed is not None:
            self._keep(reply.renewed)
        if reply.rotate_key:
            self._parts.renewal.request_rotation()

    def _hear_announcement(self, announced: tuple[bytes, ...]) -> None:
        """Have it learnt at once: this may be the only time for long that this host is connected.

        A server that repeats itself in every reply is answered in the usual time.
        """
        self._announced = announced
        if announced != self._heard_last:
            self._heard_last = announced
            self._parts.due.set()

    async def _learn_anchors(self) -> None:
        """Believe what was announced, as far as it is to be believed; it is confirmed when it is on the disk."""
        announced, self._announced = self._announced, None
        if announced is None:
            return
        roots_pem = await self._anchors.learn(announced)
        if roots_pem is not None:
            self._events.trusts(roots_pem)
            self._anchors.kept()

    def _keep(self, renewed: Renewed) -> None:
        try:
            now = self._parts.renewal.take(self._identity, renewed)
        except UnusableRenewalError as error:
            _log.warning("%s", error)
            return
        # With an existing server a new connection may cost the token; the leaf waits for the next one.
        new_leaf = now.leaf_pem != self._identity.leaf_pem
        self.wants_new_connection = new_leaf and FEATURE in self._features
        self._identity = now
        self._events.renewed(now)

    async def _renew_by_call(self) -> None:
        csr_der = self._parts.renewal.csr_if_leaf_is_due(self._identity)
        if csr_der is None:
            return
        try:
            renewed = await self._session.renew_certificate(self._identity.agent_id, csr_der)
        except DataDirectoryError:
            raise
        except AgentError as error:
            _log.warning("the certificate is not renewed: %s", error)
        else:
            self._keep(renewed)

    def _compare_clocks(self, skew_s: float) -> None:
        before, self._skew_s = self._skew_s, skew_s
        was_far, is_far = _is_far(before), _is_far(skew_s)
        if is_far and not was_far:
            _log.warning("%s", describe_skew(skew_s))
        elif was_far and not is_far:
            _log.info("this host's clock agrees with the server's again")


def _is_far(skew_s: float | None) -> bool:
    return skew_s is not None and abs(skew_s) >= WORTH_TELLING_SKEW_S

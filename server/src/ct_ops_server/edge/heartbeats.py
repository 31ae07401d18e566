"""The Heartbeat stream: frames in, a reply for each after its commit, and what is due to the agent.

A stream is refused only after its first frame was read: some clients see a bare end otherwise (rule 10).
``Conversation`` is one stream of an agent whose session is open. Its incoming side reads frames and
answers them in order; its outgoing side, ``fleet.dispatch``, has work pushed between the replies, after
the first one. Both write through ``Outgoing``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.edge import convert
from ct_ops_server.edge.anchors import FEATURE as ANCHORS
from ct_ops_server.edge.anchors import Announcements
from ct_ops_server.edge.callers import Caller
from ct_ops_server.edge.deliveries import StreamDeliveries, is_batch_only
from ct_ops_server.edge.openings import Openings
from ct_ops_server.edge.outgoing import Outgoing
from ct_ops_server.edge.pace import FramePace, allowed_silence_s, patience_s
from ct_ops_server.edge.patience import Patience
from ct_ops_server.edge.refusals import refuse
from ct_ops_server.edge.renewals import FEATURE, StreamRenewals, has_expired, is_sent_to_renew, share_of
from ct_ops_server.edge.rpc import RpcGround
from ct_ops_server.edge.work_messages import DEFINITIONS, push_message
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.hurry import FEATURE as HURRY
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.fleet.sessions import CloneFoundError, Greeting, Session, SessionRefusedError
from ct_ops_server.fleet.tasks import ATTEMPTS
from ct_ops_server.fleet.work import Work

if TYPE_CHECKING:
    from ct_ops_server.edge.rpc import Context

_UNDER_WAY = 2
"""Frames that an agent of ours sends without waiting for a reply, at most: a heartbeat and a batch. It keeps both."""

_log = logging.getLogger("ct_ops_server.agent_service")


class HeartbeatRpc:
    """The handler; bytes in, bytes out."""

    def __init__(self, ground: RpcGround) -> None:
        self._ground = ground
        self._parts = ground.parts
        self._endings: set[asyncio.Task[None]] = set()
        self._openings = Openings()

    async def serve(self, _requests: object, context: Context) -> None:
        """Serve one stream from its first frame to its end."""
        async with self._ground.ended("Heartbeat", context) as caller:
            first = await self._first_frame(context, caller)
            if first is None:
                return
            leaf = await self._ground.verified_leaf(caller)
            session = await self._open(
                convert.greeting_of(leaf, first, address=caller.address, now=self._parts.now())
            )
            _log.info("agent %s connected from %s", leaf.agent_id, caller.address)
            self._parts.metrics.streams.inc()
            self._parts.metrics.streams_opened.inc()
            try:
                with Outgoing(context, caller, self._parts.limits) as outgoing:
                    conversation = Conversation(
                        self._ground, leaf, session, first, context=context, outgoing=outgoing
                    )
                    await conversation.run()
            finally:
                self._parts.metrics.streams.dec()
                await self._close(session, leaf.agent_id)

    async def _close(self, session: Session, agent_id: str) -> None:
        """Store that the stream has ended, whatever happens to the RPC meanwhile.

        When a connection breaks, gRPC ends the stream and then cancels its handler: an agent whose end is not stored
        would be online for as long as this worker lives.
        """
        await asyncio.shield(self._beside(_close(session, agent_id)))

    async def _open(self, greeting: Greeting) -> Session:
        """Open a session; one whose RPC is cancelled meanwhile is closed again."""
        if not self._openings.enter(greeting.agent_id):
            raise refuse("take_overs")
        opening = asyncio.create_task(self._parts.sessions.open(greeting))
        opening.add_done_callback(lambda _: self._openings.leave(greeting.agent_id))
        try:
            return await asyncio.shield(opening)
        except CloneFoundError:
            self._parts.metrics.clones.inc()
            raise
        except asyncio.CancelledError:
            self._beside(_close_once_open(opening, greeting.agent_id))
            raise

    def _beside(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run this whatever happens to the RPC."""
        task = asyncio.create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def _first_frame(self, context: Context, caller: Caller) -> wire.HeartbeatRequest | None:
        try:
            async with asyncio.timeout(self._parts.limits.first_frame_s):
                with caller.resting():
                    raw = await _read(context)
        except TimeoutError:
            raise refuse("first_frame_missing") from None
        return None if raw is None else self._ground.parse(raw, wire.HeartbeatRequest)


class Conversation:
    """One open stream."""

    def __init__(
        self,
        ground: RpcGround,
        leaf: LeafOfAgent,
        session: Session,
        first: wire.HeartbeatRequest,
        *,
        context: Context,
        outgoing: Outgoing,
    ) -> None:
        self._ground = ground
        self._parts = ground.parts
        self._leaf = leaf
        self._session = session
        self._first = first
        self._context = context
        self._outgoing = outgoing
        self._caller = outgoing.caller
        self._features = frozenset(first.hello.features)
        self._anchors = Announcements(ground.parts.served_tls, ground.parts.anchor_log, leaf.agent_id)
        self._renewals = StreamRenewals(ground.parts.enrolment, leaf, ground.parts.registration_limits)
        self._deliveries = StreamDeliveries(ground.parts, leaf.agent_id, session.generation)
        self._facts = convert.LatestFacts()
        self._told_fingerprint = ""
        self._last_frames = 0
        self._opened_at = ground.parts.now()
        self._share = share_of(leaf.agent_id)
        self._now_s = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Store and acknowledge frames until the agent half-closes, and push what is due to it."""
        await self._take(self._first)
        stream = LiveStream(self._leaf.agent_id, self._session.generation, self._features)
        async with self._parts.dispatch.connected(stream, self._push):
            with Patience() as patience:
                await self._take_the_others(patience)

    async def _push(self, work: Work) -> None:
        await self._outgoing.push(push_message(work, self._features))

    async def _take_the_others(self, patience: Patience) -> None:
        limits = self._parts.limits
        pace = FramePace(per_second=limits.frames_per_second, burst=limits.frames_burst, now_s=self._now_s)
        declared_s = float(self._first.hello.interval_s)
        gap_s, read_at_s = declared_s, self._now_s()
        while (raw := await self._next_frame(patience, gap_s)) is not None:
            now_s = self._now_s()
            gap_s, read_at_s = declared_s or now_s - read_at_s, now_s
            frame = self._ground.parse(raw, wire.HeartbeatRequest)
            if frame.agent_id and frame.agent_id not in {self._leaf.agent_id, self._first.agent_id}:
                raise refuse("agent_id_mismatch")
            await self._take(frame, gap_s)
            if (wait_s := pace.take()) > 0:
                await asyncio.sleep(wait_s)

    async def _take(self, frame: wire.HeartbeatRequest, gap_s: float = 0.0) -> None:
        """Store one frame, answer it, and see whether the leaf still carries the stream."""
        if not is_batch_only(frame):
            await self._store(frame, patience_s(gap_s))
        await self._outgoing.reply(await self._reply(frame))
        now, not_after = self._parts.now(), self._leaf.not_after
        if has_expired(not_after, now):
            raise refuse("leaf_expired")
        if not self._renews_itself and is_sent_to_renew(
            not_after, opened_at=self._opened_at, now=now, share=self._share
        ):
            raise refuse("renew_leaf")

    async def _next_frame(self, patience: Patience, interval_s: float) -> bytes | None:
        """Return the next frame. A host that hangs keeps its connection open: silence ends the stream."""
        limits = self._parts.limits
        allowed_s = allowed_silence_s(
            interval_s=interval_s, floor_s=limits.silence_s, unknown_s=limits.silence_unknown_s
        )
        if self._caller.leaving is not None:
            return await self._last_frame(patience, self._caller.leaving)
        try:
            with self._caller.resting():
                return await patience.wait(_read(self._context), allowed_s)
        except TimeoutError:
            raise refuse("silent") from None

    async def _last_frame(self, patience: Patience, reason: str) -> bytes | None:
        """Return a frame that had arrived before this server began to stop; what comes later is not read.

        An agent that answers each reply with the next batch would never rest, and keep the stop waiting to its end.
        """
        if self._speaks_ours and self._last_frames == _UNDER_WAY:
            raise refuse(reason)
        self._last_frames += 1
        try:
            return await patience.wait(_read(self._context), self._parts.limits.last_frame_s)
        except TimeoutError:
            raise refuse(reason) from None

    async def _store(self, frame: wire.HeartbeatRequest, patience: float) -> None:
        arrived_s = self._now_s()
        facts = self._facts.of(frame)
        await self._session.record(convert.frame_of(frame, facts, self._parts.now()), patience_s=patience)
        self._parts.metrics.heartbeats.inc()
        self._parts.metrics.heartbeat_seconds.observe(self._now_s() - arrived_s)

    async def _reply(self, frame: wire.HeartbeatRequest) -> wire.HeartbeatResponse:
        reply = wire.HeartbeatResponse(ok=True)
        await self._deliveries.take(frame, reply)
        self._tell_web_certificate(frame, reply)
        if not self._speaks_ours:
            return reply
        reply.server_time_ms = int(self._parts.now().timestamp() * 1000)
        if frame is self._first:
            reply.welcome.features.extend((FEATURE, DEFINITIONS, ATTEMPTS, ANCHORS, HURRY))
            reply.welcome.store_id = self._parts.store_id
            reply.welcome.server_time_ms = reply.server_time_ms
            await self._deliveries.welcome(frame.hello, reply.welcome)
            reply.rotate_key = self._session.must_rotate
        if ANCHORS in self._features:
            self._anchors.answer(frame, reply)
        if frame.HasField("renewal"):
            reply.renewed.CopyFrom(await self._renewals.answer(frame.renewal))
        return reply

    def _tell_web_certificate(self, frame: wire.HeartbeatRequest, reply: wire.HeartbeatResponse) -> None:
        """Push the HTTPS certificate once to an agent that has pinned another one, or none yet."""
        news = self._parts.web_certificate.news_for(frame.pinned_server_cert_fingerprint)
        if news is not None and news.fingerprint != self._told_fingerprint:
            reply.pending_server_cert_pem = news.pem
            self._told_fingerprint = news.fingerprint

    @property
    def _speaks_ours(self) -> bool:
        return self._first.HasField("hello")

    @property
    def _renews_itself(self) -> bool:
        return FEATURE in self._features


async def _read(context: Context) -> bytes | None:
    """Return the next message; None when the agent has half-closed."""
    raw: object = await context.read()
    return raw if isinstance(raw, bytes) else None


async def _close_once_open(opening: asyncio.Task[Session], agent_id: str) -> None:
    with suppress(SessionRefusedError, StoreError):
        await _close(await opening, agent_id)


async def _close(session: Session, agent_id: str) -> None:
    try:
        await session.close()
    except StoreError as error:  # presence is put right by the sweep
        _log.warning("the end of agent %s's stream is not stored: %s", agent_id, error)
    else:
        _log.info("agent %s disconnected", agent_id)

"""What the agent of one stream delivers: numbered batches, or an existing agent's results. ``fleet.delivery``.

A frame that carries a batch and no time of its own is *batch only*: it is no heartbeat and changes nothing
of the agent's latest vitals. Every batch gets its acknowledgement in the reply to its frame, after its
commit. A database that does not answer is LATER to a batch, and the stream goes on.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.edge.items import Received, collectors_of, items_of_batch, items_of_frame
from ct_ops_server.edge.refusals import refuse
from ct_ops_server.edge.rpc import ServiceParts
from ct_ops_server.fleet.delivery import BatchNumber, Delivered, Delivery, Verdict, pause_ms
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.items import CollectorState, TaskResult
from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.fleet.sessions import SessionRefusedError
from ct_ops_server.fleet.work_ports import TOPIC as WORK

FEATURE = "delivery"
"""What an agent and this server call numbered delivery among their features."""

MAX_BATCH_BYTES = 256 * 1024
"""What agents are told. A batch is larger than that at its own risk: a frame has a limit, too."""

_OUTBOX_ID_BYTES = 16
_DIGEST_BYTES = 16
_LARGEST_SEQ = 2**63 - 1
_LATER_MS = 2_000
_VERDICTS = {
    Verdict.STORED: wire.BatchAck.STORED,
    Verdict.MISMATCH: wire.BatchAck.MISMATCH,
    Verdict.LATER: wire.BatchAck.LATER,
}
_LATER = Delivered(Verdict.LATER)


def is_batch_only(frame: wire.HeartbeatRequest) -> bool:
    """Tell whether a frame carries a batch and is no heartbeat."""
    return frame.HasField("batch") and frame.timestamp_unix == 0


class StreamDeliveries:
    """The deliveries of one stream."""

    def __init__(self, parts: ServiceParts, agent_id: str, generation: int) -> None:
        self._parts = parts
        self._agent_id = agent_id
        self._generation = generation
        self._unsaid: tuple[CollectorState, ...] | None = None
        """What the agent said of its collectors, until it is stored."""

    async def welcome(self, hello: wire.Hello, welcome: wire.Welcome) -> None:
        """Say what this server can take, and how far it has stored the agent's outbox.

        Raises:
            StoreError: the store did not answer.
        """
        welcome.features.append(FEATURE)
        welcome.max_batch_bytes = MAX_BATCH_BYTES
        if len(hello.outbox_id) == _OUTBOX_ID_BYTES:
            position = await self._parts.deliveries.position(self._agent_id, hello.outbox_id)
            welcome.stored_seq = position.seq
            welcome.stored_digest = position.digest

    async def take(self, frame: wire.HeartbeatRequest, reply: wire.HeartbeatResponse) -> None:
        """Store what a frame delivers; say in its reply what became of a batch.

        Raises:
            Refused: the batch has no form of one.
            SessionRefusedError: the agent was revoked or deleted, or a younger stream has taken over.
            StoreError: what came without a number was not stored.
        """
        now = self._parts.now()
        if frame.HasField("collectors"):
            self._unsaid = collectors_of(frame.collectors)
        if frame.HasField("batch"):
            reply.batch_ack.CopyFrom(await self._take_batch(frame.batch, now))
        results = items_of_frame(frame, now)
        if results or (self._unsaid is not None and not frame.HasField("batch")):
            await self._deliver(results, None)

    async def _take_batch(self, batch: wire.Batch, now: datetime) -> wire.BatchAck:
        number = _number_of(batch)
        try:
            delivered = await self._deliver_batch(batch.payload, number, now)
        except StoreUnavailableError:
            delivered = _LATER
        self._parts.metrics.delivery.batches.labels(verdict=delivered.verdict.value).inc()
        return _acknowledgement(number, delivered, self._parts.deliveries.load)

    async def _deliver_batch(self, payload: bytes, number: BatchNumber, now: datetime) -> Delivered:
        if self._parts.deliveries.load >= 1:
            return _LATER  # before it is read: what waits there as values takes ten times the memory
        return await self._deliver(items_of_batch(payload, now), number)

    async def _deliver(self, received: Received, number: BatchNumber | None) -> Delivered:
        delivered = await self._parts.deliveries.deliver(
            Delivery(
                self._agent_id,
                self._generation,
                received.items,
                received.malformed,
                number=number,
                collectors=self._unsaid,
            )
        )
        if delivered.verdict is Verdict.FENCED:
            raise SessionRefusedError(await self._parts.sessions.why_not_served(self._agent_id))
        self._unsaid = None
        self._parts.metrics.delivery.delivered(received.items, delivered)
        if number is not None and delivered.is_new:
            self._parts.metrics.delivery.batch_items.observe(len(received.items))
        if any(isinstance(item, TaskResult) for _, item in received.items):
            # Its agent is free for the next task, or for another attempt.
            self._parts.dispatch.look_again(LiveStream(self._agent_id, self._generation), WORK)
        return delivered


def _number_of(batch: wire.Batch) -> BatchNumber:
    if len(batch.outbox_id) != _OUTBOX_ID_BYTES or not 1 <= batch.seq <= _LARGEST_SEQ:
        raise refuse("message_malformed", "a batch has an outbox id of 16 bytes and a number from 1 on")
    digest = hashlib.sha256(batch.payload).digest()[:_DIGEST_BYTES]
    return BatchNumber(batch.outbox_id, batch.seq, digest)


def _acknowledgement(number: BatchNumber, delivered: Delivered, load: float) -> wire.BatchAck:
    is_later = delivered.verdict is Verdict.LATER
    return wire.BatchAck(
        outbox_id=number.outbox_id,
        seq=number.seq,
        digest=number.digest,
        verdict=_VERDICTS[delivered.verdict],
        retry_after_ms=max(_LATER_MS if is_later else 0, pause_ms(load)),
        stored_seq=delivered.position.seq,
        stored_digest=delivered.position.digest,
        refused=[
            wire.BatchAck.Refusal(index=refused.index, reason=refused.reason) for refused in delivered.refused
        ],
    )

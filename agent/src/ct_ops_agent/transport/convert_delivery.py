"""Numbered delivery ⇄ protobuf: welcome, batches, acknowledgements, reports of collectors. Pure, as `convert` is."""

from __future__ import annotations

from ct_ops_agent.batches import Batch, BatchAck, RefusedItem, Verdict, Welcome
from ct_ops_agent.samples import CollectorState
from ct_ops_agent.transport.texts import printable, storable
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

_LONGEST_WAIT_S = 3600.0
_VERDICTS = {pb.BatchAck.STORED: Verdict.STORED, pb.BatchAck.MISMATCH: Verdict.MISMATCH}


def to_batch_request(agent_id: str, batch: Batch) -> pb.HeartbeatRequest:
    """Return the frame for a batch: without a time it is no heartbeat."""
    message = pb.Batch(outbox_id=batch.outbox_id, seq=batch.seq, payload=batch.payload)
    return pb.HeartbeatRequest(agent_id=agent_id, batch=message)


def from_welcome(message: pb.HeartbeatResponse) -> Welcome | None:
    """Return what a server of ours says first."""
    if not message.HasField("welcome"):
        return None
    welcome = message.welcome
    return Welcome(welcome.store_id, welcome.stored_seq, welcome.stored_digest, welcome.max_batch_bytes)


def from_batch_ack(message: pb.HeartbeatResponse) -> BatchAck | None:
    """Return the answer to a batch, if this frame is one. A verdict that is not known means *later*."""
    if not message.HasField("batch_ack"):
        return None
    ack = message.batch_ack
    return BatchAck(
        outbox_id=ack.outbox_id,
        seq=ack.seq,
        digest=ack.digest,
        verdict=_VERDICTS.get(ack.verdict, Verdict.LATER),
        retry_after_s=min(ack.retry_after_ms / 1000, _LONGEST_WAIT_S),
        stored_seq=ack.stored_seq,
        stored_digest=ack.stored_digest,
        refused=tuple(RefusedItem(item.index, printable(item.reason)) for item in ack.refused),
    )


def to_collector_report(states: tuple[CollectorState, ...] | None) -> pb.CollectorReport | None:
    """Return the message that says which collectors run; ``None``: as said before."""
    if states is None:
        return None
    return pb.CollectorReport(
        collectors=[
            pb.CollectorState(
                name=state.name, interval_ms=round(state.interval_s * 1000), problem=storable(state.problem)
            )
            for state in states
        ]
    )

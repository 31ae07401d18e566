"""Items ⇄ protobuf: the bytes that the outbox keeps. Pure, as `convert` is.

Each is an encoded ``BatchBody`` with one kind of item. Encodings of messages may be concatenated: repeated
fields add up. So the payload of a batch is made of its items' bytes as they were kept, without reading them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ct_ops_agent.delivery.entries import Gap
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.transport.convert_work import (
    to_check_result,
    to_query_result,
    to_task_progress,
    to_task_result,
)
from ct_ops_agent.transport.texts import storable
from ct_ops_agent.work import CheckResult, QueryResult, Result, TaskAccepted, TaskProgress
from ct_ops_proto.agent.v1 import ingest_pb2 as pb


class ItemCodec:
    """Fulfils `delivery.entries.Codec`."""

    def encode_result(self, result: Result) -> bytes:
        """Return the bytes of one result."""
        return pb.BatchBody(results=[_to_item(result)]).SerializeToString()

    def encode_samples(self, samples: Sequence[TimedSample]) -> bytes:
        """Return the bytes of some samples."""
        body = pb.BatchBody(
            samples=[
                pb.Sample(series=storable(each.series), ts_ms=each.at_ms, value=each.value, unit=each.unit)
                for each in samples
            ]
        )
        return body.SerializeToString()

    def encode_gap(self, gap: Gap) -> bytes:
        """Return the bytes of one gap."""
        tally = gap.tally
        message = pb.Gap(
            type=tally.type, count=tally.count, from_ms=tally.from_ms, to_ms=tally.to_ms, reason=gap.reason
        )
        return pb.BatchBody(gaps=[message]).SerializeToString()

    def encode_link(self, previous_digest: bytes) -> bytes:
        """Return the bytes that tie a batch to the one before it."""
        return pb.BatchBody(previous_digest=previous_digest).SerializeToString()


def add_results(message: pb.HeartbeatRequest, items: bytes) -> None:
    """Fill fields 13 to 16 of a frame, for a server that takes no batches."""
    for item in pb.BatchBody.FromString(items).results:
        match item.WhichOneof("item"):
            case "check_result":
                message.check_results.append(item.check_result)
            case "query_result":
                message.query_results.append(item.query_result)
            case "task_progress":
                message.task_progress.append(item.task_progress)
            case "task_result":
                message.task_results.append(item.task_result)
            case _:
                pass  # that a task was accepted is not asked for there


def _to_item(result: Result) -> pb.ResultItem:
    match result:
        case CheckResult():
            return pb.ResultItem(check_result=to_check_result(result))
        case QueryResult():
            return pb.ResultItem(query_result=to_query_result(result))
        case TaskAccepted():
            return pb.ResultItem(
                task_accepted=pb.TaskAccepted(task_id=result.task_id, attempt=result.attempt)
            )
        case TaskProgress():
            return pb.ResultItem(task_progress=to_task_progress(result))
        case _:
            return pb.ResultItem(task_result=to_task_result(result))

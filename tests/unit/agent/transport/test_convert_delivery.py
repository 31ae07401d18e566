"""Numbered delivery ⇄ protobuf."""

import pytest

from ct_ops_agent.batches import Batch, BatchAck, Position, RefusedItem, Verdict, Welcome
from ct_ops_agent.control_plane import HeartbeatFrame, Hello
from ct_ops_agent.delivery.entries import Gap
from ct_ops_agent.delivery.summary import Tally
from ct_ops_agent.host import HostFacts
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.transport.convert import from_heartbeat_response, to_heartbeat_request
from ct_ops_agent.transport.convert_delivery import to_batch_request
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_agent.vitals import Vitals
from ct_ops_agent.work import CheckResult, CheckStatus, TaskAccepted
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

FACTS = HostFacts("host", "linux", "arm64", "Debian", "boot-1")
VITALS = Vitals(12.5, 25.0, 50.0, 3600, (), ())
CODEC = ItemCodec()


def test_items_that_were_encoded_apart_are_one_batch_together() -> None:
    """In any order: that is what makes freezing a matter of joining bytes."""
    payload = b"".join(
        (
            CODEC.encode_samples([TimedSample("up.seconds", 5, 1.5, "s")]),
            CODEC.encode_result(TaskAccepted("t1", 2)),
            CODEC.encode_gap(Gap(Tally("sample", 3, 1, 2), "why")),
            CODEC.encode_result(CheckResult("c1", CheckStatus.PASS, "ok", 1, 7)),
            CODEC.encode_samples([TimedSample("up.seconds", 6, 2.5, "s")]),
            CODEC.encode_link(b"d" * 16),
        )
    )

    body = pb.BatchBody.FromString(payload)
    assert ["task_accepted", "check_result"] == [item.WhichOneof("item") for item in body.results]
    assert [(5, 1.5), (6, 2.5)] == [(sample.ts_ms, sample.value) for sample in body.samples]
    assert [("sample", 3, 1, 2, "why")] == [
        (gap.type, gap.count, gap.from_ms, gap.to_ms, gap.reason) for gap in body.gaps
    ]
    assert b"d" * 16 == body.previous_digest


def test_a_batch_is_no_heartbeat() -> None:
    """Its frame has no time and no vitals."""
    message = to_batch_request("agent-1", Batch(b"o" * 16, 7, b"payload"))

    assert (
        pb.HeartbeatRequest(
            agent_id="agent-1", batch=pb.Batch(outbox_id=b"o" * 16, seq=7, payload=b"payload")
        )
        == message
    )


def test_the_hello_says_where_the_outbox_is() -> None:
    """Or that there is none."""
    position = Position(b"o" * 16, 3, b"d" * 16, b"s" * 16)
    said = to_heartbeat_request(
        HeartbeatFrame("a", 0, "1.0", FACTS, VITALS, Hello("boot", "p", 30, (), position))
    ).hello
    nothing = to_heartbeat_request(HeartbeatFrame("a", 0, "1.0", FACTS, VITALS, Hello("boot", "p", 30))).hello

    assert (b"o" * 16, 3, b"d" * 16, b"s" * 16) == (
        said.outbox_id,
        said.acked_seq,
        said.acked_digest,
        said.store_id,
    )
    assert b"" == nothing.outbox_id


def test_a_welcome_says_where_the_server_is() -> None:
    """Of the outbox that the hello named."""
    message = pb.HeartbeatResponse(
        welcome=pb.Welcome(store_id=b"s", stored_seq=4, stored_digest=b"d", max_batch_bytes=9)
    )

    assert Welcome(b"s", 4, b"d", 9) == from_heartbeat_response(message).welcome


@pytest.mark.parametrize(
    ("said", "verdict"),
    [(1, Verdict.STORED), (2, Verdict.MISMATCH), (3, Verdict.LATER), (0, Verdict.LATER), (9, Verdict.LATER)],
)
def test_a_verdict_that_is_not_known_means_later(said: int, verdict: Verdict) -> None:
    """Whatever a later server says: sending the same again does no harm."""
    message = pb.HeartbeatResponse(
        batch_ack=pb.BatchAck(
            outbox_id=b"o",
            seq=4,
            digest=b"d",
            verdict=said,  # type: ignore[arg-type]  # a number of a later version
            retry_after_ms=1_500,
            stored_seq=3,
            stored_digest=b"e",
            refused=[pb.BatchAck.Refusal(index=2, reason="bad\x1b[2J")],
        )
    )

    expected = BatchAck(b"o", 4, b"d", verdict, 1.5, 3, b"e", (RefusedItem(2, "bad [2J"),))
    assert expected == from_heartbeat_response(message).batch_ack


def test_attack_no_server_sends_delivery_to_sleep_for_a_year() -> None:
    """A wait is an hour at most."""
    message = pb.HeartbeatResponse(batch_ack=pb.BatchAck(verdict=pb.BatchAck.LATER, retry_after_ms=2**63))

    ack = from_heartbeat_response(message).batch_ack
    assert ack is not None
    assert 3600 == ack.retry_after_s

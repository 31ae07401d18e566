"""Model ⇄ protobuf."""

from datetime import timedelta

import pytest

from ct_ops_agent.control_plane import HeartbeatFrame, HeartbeatReply, Hello, Registration, Tag
from ct_ops_agent.disks import Disk
from ct_ops_agent.host import HostFacts
from ct_ops_agent.secret import Secret
from ct_ops_agent.transport.convert import (
    from_heartbeat_response,
    from_register_response,
    to_heartbeat_request,
    to_refusal,
    to_register_request,
)
from ct_ops_agent.transport.texts import printable
from ct_ops_agent.vitals import Interface, Vitals
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

FACTS = HostFacts("host\udcff", "linux", "arm64", "Debian GNU/Linux 12 (bookworm)", "boot-1")
DISK = Disk("/m\udcff", "/dev/vda1", "ext4", 100, 60, 40, 60.0)
INTERFACE = Interface("eth0", ("192.0.2.1",), "00:00:5e:00:53:01", is_up=True)
VITALS = Vitals(12.5, 25.0, 50.0, 3600, (DISK,), (INTERFACE,))


def test_a_registration_is_sent_as_existing_servers_expect() -> None:
    """The token's secret in org_token, addresses as evidence, tags as claimed."""
    registration = Registration(Secret("tok"), "PEM", b"csr", "", "1.0", FACTS, (Tag("env", "prod"),))

    message = to_register_request(registration, (INTERFACE,))

    assert ("tok", "PEM", b"csr", "host?") == (
        message.org_token,
        message.public_key,
        message.csr_der,
        message.agent_info.hostname,
    )
    assert ("linux", "arm64", ["192.0.2.1"]) == (
        message.platform_info.os,
        message.platform_info.arch,
        list(message.platform_info.ip_addresses),
    )
    assert [("env", "prod")] == [(tag.key, tag.value) for tag in message.tags]


def test_a_frame_carries_every_vital() -> None:
    """And names on the host that are no text are made storable instead of ending the agent."""
    frame = HeartbeatFrame("agent-1", 1_800_000_000, "1.0", FACTS, VITALS, Hello("boot-1", "p", 30))

    message = to_heartbeat_request(frame)

    assert ("agent-1", 12.5, 25.0, 50.0, 3600, 1_800_000_000) == (
        message.agent_id,
        message.cpu_percent,
        message.memory_percent,
        message.disk_percent,
        message.uptime_seconds,
        message.timestamp_unix,
    )
    assert ("/m?", 100, 60, 40, 60.0) == (
        message.disks[0].mount_point,
        message.disks[0].total_bytes,
        message.disks[0].used_bytes,
        message.disks[0].free_bytes,
        message.disks[0].percent_used,
    )
    assert ("eth0", True) == (message.network_interfaces[0].name, message.network_interfaces[0].is_up)
    assert ("boot-1", "p", 30) == (message.hello.boot_id, message.hello.process_id, message.hello.interval_s)


def test_later_frames_have_no_hello() -> None:
    """Absent, not empty: the server can tell."""
    assert not to_heartbeat_request(HeartbeatFrame("a", 0, "1.0", FACTS, VITALS)).HasField("hello")


def test_an_existing_servers_reply_has_no_welcome() -> None:
    """Nothing is made up for what an existing server does not say."""
    assert HeartbeatReply(None, ()) == from_heartbeat_response(pb.HeartbeatResponse(ok=True))


def test_a_welcome_tells_the_servers_time() -> None:
    """Milliseconds on the wire, seconds inside."""
    message = pb.HeartbeatResponse(ok=True, welcome=pb.Welcome(server_time_ms=1_500))

    assert 1.5 == from_heartbeat_response(message).server_time_unix


def test_work_that_is_not_done_is_named() -> None:
    """What an existing server may push and this agent will not do."""
    message = pb.HeartbeatResponse(
        update_available=True, pending_terminal_sessions=[pb.TerminalSessionRequest()]
    )

    assert ("an update", "terminal sessions") == from_heartbeat_response(message).unsupported_work


def test_what_a_server_says_is_made_printable() -> None:
    """Attack: escape sequences in a message do not reach a terminal, a long one not the log."""
    reply = from_register_response(
        pb.RegisterResponse(message="\x1b[2Jhi\n" + "x" * 1000, jwt_token="secret")
    )

    assert reply.message.startswith(" [2Jhi x")
    assert 301 == len(reply.message)
    assert "secret" not in repr(reply)
    assert "plain ü" == printable("plain ü")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("1500", 1.5), ("", 0), ("-5", 0), ("soon", 0), ("999999999", 3600), ("9" * 400, 0), ("²", 0)],
)
def test_a_wish_to_wait_is_bounded(asked: str, expected: float) -> None:
    """Attack: no server sends an agent to sleep for a year, or makes it fail over a number."""
    refusal = to_refusal(
        "UNAVAILABLE", None, {"ct-ops-retry-after-ms": asked, "ct-ops-reason": "limit"}, now_unix=0.0
    )

    assert ("limit", "", timedelta(seconds=expected)) == (refusal.reason, refusal.detail, refusal.retry_after)


@pytest.mark.parametrize(
    ("said", "skew_s"), [("1000000", -900.0), ("100000", 0.0), ("", None), ("-1", None), ("9" * 15, None)]
)
def test_the_servers_clock_is_compared_with_this_hosts(said: str, skew_s: float | None) -> None:
    """What is no number, or absurd, is not said."""
    refusal = to_refusal("UNAVAILABLE", "", {"ct-ops-server-time-ms": said}, now_unix=100.0)

    assert skew_s == refusal.clock_skew_s


def test_attack_a_request_id_is_printable_and_short() -> None:
    """It goes into the agent's log."""
    refusal = to_refusal("UNAVAILABLE", "", {"ct-ops-request-id": "\x1b[2J" + "a" * 500}, now_unix=0.0)

    assert 32 == len(refusal.request_id)
    assert refusal.request_id.isprintable()


def test_a_pushed_leaf_is_a_renewal() -> None:
    """Existing servers push one after an approval; ours answer what was asked."""
    pushed = from_heartbeat_response(
        pb.HeartbeatResponse(pending_client_cert_pem="leaf", pending_client_cert_not_after_unix=9)
    ).renewed
    answered = from_heartbeat_response(
        pb.HeartbeatResponse(renewed=pb.RenewalResponse(agent_token="t", client_cert_pem="leaf"))
    ).renewed

    assert ("leaf", 9, "") == (pushed.leaf_pem, pushed.leaf_not_after_unix, pushed.agent_token.reveal())  # type: ignore[union-attr]  # None fails as well
    assert ("leaf", "t") == (answered.leaf_pem, answered.agent_token.reveal())  # type: ignore[union-attr]  # as above
    assert from_heartbeat_response(pb.HeartbeatResponse()).renewed is None

"""Model ⇄ protobuf: pure, and the only place that knows field names.

What comes from the server is made harmless here: texts are printable and bounded before a flow, a
log or a terminal sees them. Fields of ours (100 and up) are written for servers that know them and
simply absent in what an existing server sends. What comes from the host is made storable.
"""

from datetime import timedelta

from ct_ops_agent.control_plane import (
    AnchorReport,
    AnchorSource,
    Departure,
    HeartbeatFrame,
    HeartbeatReply,
    KeyProof,
    Registration,
    RegistrationReply,
    RenewalAsk,
    Renewed,
)
from ct_ops_agent.disks import Disk
from ct_ops_agent.errors import Refusal
from ct_ops_agent.secret import Secret
from ct_ops_agent.transport.convert_delivery import from_batch_ack, from_welcome, to_collector_report
from ct_ops_agent.transport.convert_items import add_results
from ct_ops_agent.transport.convert_work import from_work
from ct_ops_agent.transport.texts import printable, storable
from ct_ops_agent.vitals import Interface, addresses_of
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

_MOST_FEATURES = 64
_MOST_ANCHORS = 64
_LONGEST_WAIT = timedelta(hours=1)
_LONGEST_SPREAD = timedelta(minutes=1)
_REASON_KEY = "ct-ops-reason"
_REQUEST_ID_KEY = "ct-ops-request-id"
_LONGEST_REQUEST_ID = 32
_RETRY_KEY = "ct-ops-retry-after-ms"
_WITHIN_KEY = "ct-ops-reconnect-within-ms"
_SERVER_TIME_KEY = "ct-ops-server-time-ms"
_SOURCES = {
    AnchorSource.LEARNT: pb.AnchorReport.LEARNT,
    AnchorSource.OPERATOR: pb.AnchorReport.OPERATOR,
    AnchorSource.HOST: pb.AnchorReport.HOST,
    AnchorSource.UNVERIFIED: pb.AnchorReport.UNVERIFIED,
}


def to_register_request(registration: Registration, interfaces: tuple[Interface, ...]) -> pb.RegisterRequest:
    """Return the message for a registration."""
    facts = registration.facts
    return pb.RegisterRequest(
        org_token=registration.enrolment_token.reveal(),
        public_key=registration.public_key_pem,
        platform_info=pb.PlatformInfo(
            os=facts.os, arch=facts.arch, os_version=facts.os_version, ip_addresses=addresses_of(interfaces)
        ),
        agent_info=pb.AgentInfo(
            agent_id=registration.agent_id,
            version=registration.agent_version,
            hostname=storable(facts.hostname),
        ),
        tags=[pb.Tag(key=tag.key, value=tag.value) for tag in registration.tags],
        csr_der=registration.csr_der,
        proof=to_key_proof(registration.proof),
        machine_id=facts.machine_id,
    )


def to_key_proof(proof: KeyProof | None) -> pb.KeyProof | None:
    """Return the message for a proof."""
    return None if proof is None else pb.KeyProof(nonce=proof.nonce, signature=proof.signature)


def to_deregister_request(departure: Departure) -> pb.DeregisterRequest:
    """Return the message for a departure."""
    return pb.DeregisterRequest(
        public_key=departure.public_key_pem,
        agent_id=departure.agent_id,
        proof=to_key_proof(departure.proof),
    )


def from_register_response(message: pb.RegisterResponse) -> RegistrationReply:
    """Return what the server answered."""
    return RegistrationReply(
        agent_id=printable(message.agent_id),
        status=printable(message.status),
        message=printable(message.message),
        agent_token=Secret(message.jwt_token),
        leaf_pem=message.client_cert_pem,
        agent_ca_pem=message.agent_ca_cert_pem,
        leaf_not_after_unix=message.client_cert_not_after_unix,
        reason=printable(message.reason),
    )


def to_heartbeat_request(frame: HeartbeatFrame) -> pb.HeartbeatRequest:
    """Return the message for a frame."""
    message = pb.HeartbeatRequest(
        agent_id=frame.speaker,
        cpu_percent=frame.vitals.cpu_percent,
        memory_percent=frame.vitals.memory_percent,
        disk_percent=frame.vitals.disk_percent,
        uptime_seconds=frame.vitals.uptime_seconds,
        timestamp_unix=frame.sent_at_unix,
        agent_version=frame.agent_version,
        os_version=frame.facts.os_version,
        disks=[_to_disk(disk) for disk in frame.vitals.disks],
        network_interfaces=[_to_interface(interface) for interface in frame.vitals.interfaces],
        os=frame.facts.os,
        arch=frame.facts.arch,
        hello=_to_hello(frame),
        clock_skew_ms=frame.clock_skew_ms,
        renewal=_to_renewal(frame.renewal),
        pinned_server_cert_fingerprint=frame.pinned_fingerprint,
        collectors=to_collector_report(frame.collectors),
        anchors=_to_anchor_report(frame.anchors),
    )
    add_results(message, frame.items)
    return message


def from_heartbeat_response(
    message: pb.HeartbeatResponse, *, knows_definitions: bool = False
) -> HeartbeatReply:
    """Return what a frame of the server says; ``knows_definitions``: its welcome named that feature."""
    server_time_ms = message.server_time_ms or message.welcome.server_time_ms
    return HeartbeatReply(
        server_time_unix=server_time_ms / 1000 if server_time_ms else None,
        unsupported_work=_unsupported_work(message),
        features=tuple(printable(feature) for feature in message.welcome.features[:_MOST_FEATURES]),
        renewed=_from_renewed(message),
        server_certificate_pem=message.pending_server_cert_pem,
        work=from_work(message, knows_definitions=knows_definitions),
        welcome=from_welcome(message),
        batch_ack=from_batch_ack(message),
        renew_leaf=message.renew_leaf,
        rotate_key=message.rotate_key,
        anchors=tuple(message.anchors.certificates[:_MOST_ANCHORS]) if message.HasField("anchors") else None,
    )


def from_renew_response(message: pb.RenewCertificateResponse) -> Renewed:
    """Return the leaf that RenewCertificate gave."""
    return Renewed(
        Secret(""), message.client_cert_pem, message.client_cert_not_after_unix, message.agent_ca_cert_pem
    )


def _from_renewed(message: pb.HeartbeatResponse) -> Renewed | None:
    if message.HasField("renewed"):
        renewed = message.renewed
        return Renewed(
            Secret(renewed.agent_token),
            renewed.client_cert_pem,
            renewed.client_cert_not_after_unix,
            renewed.agent_ca_cert_pem,
        )
    if message.pending_client_cert_pem:  # an existing server pushes a leaf after an approval or a rotation
        return Renewed(
            Secret(""),
            message.pending_client_cert_pem,
            message.pending_client_cert_not_after_unix,
            message.agent_ca_cert_pem,
        )
    return None


def to_refusal(status: str, details: str | None, metadata: dict[str, str], *, now_unix: float) -> Refusal:
    """Return a refusal from a gRPC status and its trailing metadata; ``now_unix`` is this host's clock."""
    return Refusal(
        status=status,
        reason=printable(metadata.get(_REASON_KEY, "")),
        detail=printable(details or ""),
        retry_after=_milliseconds(metadata, _RETRY_KEY, at_most=_LONGEST_WAIT),
        reconnect_within=_milliseconds(metadata, _WITHIN_KEY, at_most=_LONGEST_SPREAD),
        clock_skew_s=_clock_skew(metadata, now_unix),
        request_id=printable(metadata.get(_REQUEST_ID_KEY, ""))[:_LONGEST_REQUEST_ID],
    )


def _milliseconds(metadata: dict[str, str], key: str, *, at_most: timedelta) -> timedelta:
    said = metadata.get(key, "")
    found = timedelta(milliseconds=int(said)) if said.isdecimal() and len(said) < 10 else timedelta(0)
    return min(found, at_most)


def _clock_skew(metadata: dict[str, str], now_unix: float) -> float | None:
    said = metadata.get(_SERVER_TIME_KEY, "")
    return now_unix - int(said) / 1000 if said.isdecimal() and len(said) < 15 else None


def _to_hello(frame: HeartbeatFrame) -> pb.Hello | None:
    if frame.hello is None:
        return None
    position = frame.hello.position
    return pb.Hello(
        boot_id=frame.hello.boot_id,
        process_id=frame.hello.process_id,
        interval_s=frame.hello.interval_s,
        features=frame.hello.features,
        outbox_id=position.outbox_id if position else b"",
        acked_seq=position.acked_seq if position else 0,
        acked_digest=position.acked_digest if position else b"",
        store_id=position.store_id if position else b"",
        machine_id=frame.hello.machine_id,
        hostname=frame.hello.hostname,
    )


def _to_anchor_report(report: AnchorReport | None) -> pb.AnchorReport | None:
    if report is None:
        return None
    return pb.AnchorReport(source=_SOURCES[report.source], believed=report.believed)


def _to_renewal(ask: RenewalAsk | None) -> pb.RenewalRequest | None:
    return None if ask is None else pb.RenewalRequest(csr_der=ask.csr_der, proof=to_key_proof(ask.proof))


def _to_disk(disk: Disk) -> pb.DiskInfo:
    return pb.DiskInfo(
        mount_point=storable(disk.mount_point),
        device=storable(disk.device),
        fs_type=disk.fs_type,
        total_bytes=disk.total_bytes,
        used_bytes=disk.used_bytes,
        free_bytes=disk.free_bytes,
        percent_used=disk.percent_used,
    )


def _to_interface(interface: Interface) -> pb.NetworkInterface:
    return pb.NetworkInterface(
        name=storable(interface.name),
        ip_addresses=interface.ip_addresses,
        mac_address=interface.mac_address,
        is_up=interface.is_up,
    )


def _unsupported_work(message: pb.HeartbeatResponse) -> tuple[str, ...]:
    kinds = {
        "an update": message.update_available,
        "terminal sessions": message.pending_terminal_sessions,
    }
    return tuple(kind for kind, asked in kinds.items() if asked)

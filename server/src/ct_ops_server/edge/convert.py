"""Between messages of the wire and values of the domain. Pure.

Everything that leaves here is storable (rule 15): in a grouped write one NUL in a string, one integer
beyond 63 bits or one absurd time would fail the *whole* group on PostgreSQL, that is, the heartbeats
of every other agent. So strings lose control characters (rule 16: they end up in terminals and logs
too) and what exceeds their length, floats are finite, integers fit, times are between 2000 and a day
from now, lists have an end. Nothing is refused for it: an agent with one odd disk is still alive.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.enrolment_token import MAX_ACCEPTED_BYTES, strip_hint
from ct_ops_proto.machine_identity import is_machine_digest
from ct_ops_server.authority.csr import parse_csr
from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.authority.public_key import PublicKey, parse_public_key
from ct_ops_server.edge.refusals import refuse
from ct_ops_server.enrolment.model import Application, Refusal, Registration, Renewal
from ct_ops_server.enrolment.service import refusal
from ct_ops_server.fleet.model import Disk, Facts, Frame, Interface, Tag, Vitals
from ct_ops_server.fleet.sessions import Greeting
from ct_ops_server.fleet.sides import Side

_LARGEST_INT = 2**63 - 1
_YEAR_2000_S = 946_684_800
_YEAR_2200_S = 7_258_118_400
_DAY_S = 86_400
_LONGEST_SKEW_MS = 200 * 366 * _DAY_S * 1_000
_NAME_CHARS = 255
_TEXT_CHARS = 512
_DISKS = 256
_INTERFACES = 256
_ADDRESSES = 64
_TAGS = 64
_TAG_KEY_CHARS = 100
_TAG_VALUE_CHARS = 500
_LONGEST_INTERVAL_S = 3_600
_ID_CHARS = 64
_OUTBOX_ID_BYTES = 16
_MACS = 8
_MADE_UP_INTERFACES = ("lo", "docker", "veth", "br-", "virbr", "cni", "flannel", "cali", "tun", "tap", "wg")


def clean_text(text: str, longest: int = _TEXT_CHARS) -> str:
    """Return the text without control, format and surrogate characters, cut to ``longest`` characters."""
    text = text[: longest * 2]
    if not text.isprintable():
        text = "".join(
            " " if character in "\t\r\n" else character for character in text if _is_shown(character)
        )
    return text.strip()[:longest]


def _is_shown(character: str) -> bool:
    return character in "\t\r\n" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn"}


def percentage(value: float) -> float:
    """Return the value within 0 to 100; what is no number counts as 0."""
    return min(max(value, 0.0), 100.0) if math.isfinite(value) else 0.0


def storable_int(value: int) -> int:
    """Return the value within 0 and 2^63 - 1."""
    return min(max(value, 0), _LARGEST_INT)


def storable_time(unix_s: int, now: datetime) -> int:
    """Return the Unix time when it lies between 2000 and a day from now, else 0."""
    return unix_s if _YEAR_2000_S <= unix_s <= now.timestamp() + _DAY_S else 0


class LatestFacts:
    """Disks and interfaces as the frames of a stream say them. Nearly every frame repeats the one before it."""

    __slots__ = ("_facts", "_said")

    def __init__(self) -> None:
        self._said: wire.HeartbeatRequest | None = None
        self._facts = Facts(disks=[], interfaces=[])

    def of(self, message: wire.HeartbeatRequest) -> Facts:
        """Return what a frame says of them, storable: the same object for as long as it says the same."""
        said, self._said = self._said, message
        if (
            said is None
            or message.disks != said.disks
            or message.network_interfaces != said.network_interfaces
        ):
            self._facts = facts_of(message)
        return self._facts


def frame_of(message: wire.HeartbeatRequest, facts: Facts, now: datetime) -> Frame:
    """Return what a heartbeat frame says, storable."""
    return Frame(vitals=_vitals(message, now), facts=facts, clock_skew=_clock_skew(message, now))


def _clock_skew(message: wire.HeartbeatRequest, now: datetime) -> timedelta | None:
    """Return how far the agent's clock is ahead: as it measured it itself, else as its frame shows.

    An existing agent says only when it sent the frame, in whole seconds; that finds the clock that is
    minutes off, and a network that takes a second makes no difference to it.
    """
    if message.HasField("clock_skew_ms"):
        skew_ms = min(max(message.clock_skew_ms, -_LONGEST_SKEW_MS), _LONGEST_SKEW_MS)
        return timedelta(milliseconds=skew_ms)
    if not _YEAR_2000_S <= message.timestamp_unix <= _YEAR_2200_S:
        return None
    return timedelta(seconds=message.timestamp_unix - int(now.timestamp()))


def _vitals(message: wire.HeartbeatRequest, now: datetime) -> Vitals:
    return Vitals(
        cpu_percent=percentage(message.cpu_percent),
        memory_percent=percentage(message.memory_percent),
        disk_percent=percentage(message.disk_percent),
        uptime_s=storable_int(message.uptime_seconds),
        reported_at_s=storable_time(message.timestamp_unix, now),
        agent_version=clean_text(message.agent_version, _NAME_CHARS),
        os=clean_text(message.os, _NAME_CHARS),
        os_version=clean_text(message.os_version, _NAME_CHARS),
        arch=clean_text(message.arch, _NAME_CHARS),
    )


def facts_of(message: wire.HeartbeatRequest) -> Facts:
    """Return the disks and interfaces of a frame, storable."""
    return Facts(
        disks=[_disk(disk) for disk in message.disks[:_DISKS]],
        interfaces=[_interface(interface) for interface in message.network_interfaces[:_INTERFACES]],
    )


def _disk(disk: wire.DiskInfo) -> Disk:
    return Disk(
        mount_point=clean_text(disk.mount_point),
        device=clean_text(disk.device),
        fs_type=clean_text(disk.fs_type),
        total_bytes=storable_int(disk.total_bytes),
        used_bytes=storable_int(disk.used_bytes),
        free_bytes=storable_int(disk.free_bytes),
        percent_used=percentage(disk.percent_used),
    )


def _interface(interface: wire.NetworkInterface) -> Interface:
    return Interface(
        name=clean_text(interface.name),
        ip_addresses=list(addresses_of(interface.ip_addresses)),
        mac_address=clean_text(interface.mac_address),
        is_up=interface.is_up,
    )


def addresses_of(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return at most 64 addresses as clean text. They are evidence, never identity (rule 14)."""
    cleaned = (
        clean_text(address, _NAME_CHARS) for address, _ in zip(addresses, range(_ADDRESSES), strict=False)
    )
    return tuple(address for address in cleaned if address)


def hostname_of(text: str) -> str:
    """Return a hostname fit for terminals, logs and the store."""
    return clean_text(text, _NAME_CHARS)


def tags_of(tags: Sequence[wire.Tag]) -> tuple[Tag, ...]:
    """Return claimed tags, the last value of a key winning, at most 64 of them."""
    latest = {
        clean_text(tag.key, _TAG_KEY_CHARS): clean_text(tag.value, _TAG_VALUE_CHARS) for tag in tags[:_TAGS]
    }
    return tuple(Tag(key, value) for key, value in latest.items() if key)


def application_of(
    message: wire.RegisterRequest,
    *,
    address: str,
    leaf_agent_id: Callable[[PublicKey], str | None],
    is_proven: Callable[[PublicKey], bool],
    presented_key_id: str = "",
) -> Application:
    """Return a Register as an application: its form is checked, its content is only claimed.

    Args:
        message: as it came.
        address: where the front door saw it come from.
        leaf_agent_id: tells which agent a valid leaf of this connection for that key names.
        presented_key_id: the key that this connection proved.
        is_proven: tells whether this connection, or a signed challenge, proved that key.

    Raises:
        EnrolmentRefusedError: the token or the key is missing, or the token is absurdly long.
        KeyRefusedError: the key or the CSR is not acceptable, or they do not belong together.
        Refused: there is no hostname.
    """
    if not message.public_key:
        raise refusal(Refusal.TOKEN_MISSING)
    if len(message.org_token.encode(errors="replace")) > MAX_ACCEPTED_BYTES:
        raise refusal(Refusal.TOKEN_UNKNOWN)
    key = parse_public_key(message.public_key)
    parse_csr(message.csr_der, expected=key)
    hostname = hostname_of(message.agent_info.hostname)
    if not hostname:
        raise refuse("hostname_missing")
    platform = message.platform_info
    return Application(
        token=strip_hint(message.org_token.strip()),
        key_id=key.key_id,
        public_key_der=key.spki_der,
        hostname=hostname,
        os=clean_text(platform.os, _NAME_CHARS),
        os_version=clean_text(platform.os_version, _NAME_CHARS),
        arch=clean_text(platform.arch, _NAME_CHARS),
        agent_version=clean_text(message.agent_info.version, _NAME_CHARS),
        ip_addresses=addresses_of(platform.ip_addresses),
        claimed_tags=tags_of(message.tags),
        observed_address=address,
        key_is_proven=is_proven(key),
        machine_id=message.machine_id if is_machine_digest(message.machine_id) else "",
        leaf_agent_id=leaf_agent_id(key),
        presented_key_id=presented_key_id,
    )


def greeting_of(leaf: LeafOfAgent, first: wire.HeartbeatRequest, *, address: str, now: datetime) -> Greeting:
    """Return what opens a stream. Existing agents say no interval."""
    interval_s = min(first.hello.interval_s, _LONGEST_INTERVAL_S)
    return Greeting(
        agent_id=leaf.agent_id,
        key_id=leaf.key_id,
        leaf_sha256=leaf.sha256,
        claimed_token=first.agent_id,
        interval=timedelta(seconds=interval_s) if interval_s else None,
        side=side_of(first, address=address, now=now),
    )


def side_of(first: wire.HeartbeatRequest, *, address: str, now: datetime) -> Side:
    """Return what a stream's first frame says about who opens it, as seen at ``address``."""
    hello, uptime_s = first.hello, first.uptime_seconds
    boot = int(now.timestamp()) - uptime_s
    return Side(
        address=address,
        process_id=clean_text(hello.process_id, _ID_CHARS),
        outbox_id=hello.outbox_id[:_OUTBOX_ID_BYTES].hex(),
        boot_id=clean_text(hello.boot_id, _ID_CHARS),
        machine_id=hello.machine_id if is_machine_digest(hello.machine_id) else "",
        hostname=hostname_of(hello.hostname),
        macs=_macs_of(first.network_interfaces[:_INTERFACES]),
        booted_at_s=boot if uptime_s > 0 and boot >= _YEAR_2000_S else 0,
        version=clean_text(first.agent_version, _ID_CHARS),
        acked_seq=storable_int(hello.acked_seq),
    )


def _macs_of(interfaces: Iterable[wire.NetworkInterface]) -> tuple[str, ...]:
    """Return the addresses of what may be hardware: bridges and tunnels come and go, and look alike everywhere."""
    macs = {
        clean_text(each.mac_address, _ID_CHARS).lower()
        for each in interfaces
        if not each.name.lower().startswith(_MADE_UP_INTERFACES)
    }
    return tuple(sorted(macs - {"", "00:00:00:00:00:00"})[:_MACS])


def renewal_message(renewal: Renewal, *, authority_pem: str) -> wire.RenewalResponse:
    """Return what was renewed."""
    not_after = renewal.leaf_not_after
    if not_after is None:
        return wire.RenewalResponse(agent_token=renewal.agent_token)
    return wire.RenewalResponse(
        agent_token=renewal.agent_token,
        client_cert_pem=renewal.leaf_pem,
        client_cert_not_after_unix=int(not_after.timestamp()),
        agent_ca_cert_pem=authority_pem,
    )


def registration_message(registration: Registration, now: datetime) -> wire.RegisterResponse:
    """Return the reply to a Register that was not refused."""
    not_after = registration.leaf_not_after
    return wire.RegisterResponse(
        agent_id=registration.agent_id,
        status=registration.status.value,
        message=registration.message,
        jwt_token=registration.agent_token,
        client_cert_pem=registration.leaf_pem,
        agent_ca_cert_pem=registration.authority_pem,
        client_cert_not_after_unix=0 if not_after is None else int(not_after.timestamp()),
        server_time_ms=int(now.timestamp() * 1000),
        reason=registration.reason,
    )

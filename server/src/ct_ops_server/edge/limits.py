"""Every limit of the edge in one place, each with its unit and what it protects against.

The defaults suit a server of two cores. Operators change those that ``limits_of`` reads from the settings; tests
shorten times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ct_ops_server.config.schema import Settings


@dataclass(frozen=True)
class Limits:
    """Limits of one server process."""

    # -- before TLS: a silent TCP connection costs 50 KiB, so it is counted before anything else
    handshakes: int = 1_000
    """Connections in their TLS handshake, in total."""
    handshakes_per_address: int = 256
    connections: int | None = None
    """In total; None: what the limit of open files allows, which is never exceeded anyway."""
    connections_per_second: int = 2_000
    connections_per_second_per_address: int = 1_000
    handshake_timeout_s: float = 5.0
    proxy_header_s: float = 3.0
    """For a balancer to say whose connection it is."""
    tls_shutdown_timeout_s: float = 2.0
    descriptors_per_connection: int = 3
    """TLS side, dialled side, and the side the upstream accepted."""
    descriptor_share: float = 0.9
    """Part of RLIMIT_NOFILE that connections may use."""

    # -- after TLS, callers without a valid identity
    lobby_connections: int = 4_000
    lobby_connections_per_address: int = 1_000
    lobby_streams: int = 2
    lobby_message_bytes: int = 64 * 1024
    lobby_idle_s: float = 75.0
    """Longer than a pending agent's poll of 30 s and than the longest held refusal (60 s)."""

    # -- http/1.1 on the agent port
    http_connections: int = 64
    http_connections_per_address: int = 8
    http_idle_s: float = 15.0
    http_age_s: float = 900.0

    # -- callers with a valid identity
    agent_streams: int = 8
    agent_message_bytes: int = 1024 * 1024
    first_frame_s: float = 30.0
    last_frame_s: float = 0.05
    """While the server stops: how long a stream that has just been answered is given for its next frame."""
    silence_s: float = 90.0
    """A stream is ended after this long without a frame, or three intervals if that is longer."""
    silence_unknown_s: float = 900.0
    """The same while the agent's interval is not known yet (existing agents never say it)."""
    stalled_s: float = 60.0
    """A peer that takes nothing of what it is sent for this long loses its connection."""
    uploaded_packages: int = 200_000
    """Packages of scans that are being uploaded, in memory, all agents together (about 100 MB)."""
    frames_per_second: float = 10.0
    """Sustained frames of one stream; more are not read until their time has come."""
    frames_burst: int = 20

    # -- gRPC
    message_backstop: int = 4
    """gRPC's own size limit, as a multiple of ours: beyond it the RPC ends without our sentence."""
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    ping_interval_s: float = 10.0
    """Existing agents send an HTTP/2 PING every 30 s, also without a stream."""

    # -- dialling
    dials: int = 64
    dial_timeout_s: float = 5.0

    # -- stopping
    last_words_s: float = 0.5
    """Between telling RPCs that are still under way that this server stops, and cutting them."""
    flush_s: float = 2.0
    """For the last bytes of agents' connections to leave."""

    # -- revocation
    end_grace_s: float = 0.3
    """Between telling a revoked agent why and cutting its connection."""

    # -- refused registrations are answered late: existing agents come back every 5 s for ever
    held_refusals: int = 500
    held_refusal_s: float = 5.0
    held_refusal_max_s: float = 60.0

    # -- registrations answered in a minute; None: as many as come
    registrations_per_address: int | None = None
    registrations_per_token: int | None = None

    leaves_per_agent: int = 6
    """In a minute. An honest agent needs one in weeks, and another when a reply was lost."""

    # -- a leaf of an unknown authority: the next connection of that address is not asked for one
    unknown_authority_grace_s: float = 5.0


def limits_of(settings: Settings) -> Limits:
    """Return the limits as operators set them."""
    return Limits(
        handshakes=settings.max_handshakes,
        handshakes_per_address=settings.max_handshakes_per_address,
        connections=settings.max_connections,
        connections_per_second=settings.connections_per_second,
        connections_per_second_per_address=settings.connections_per_second_per_address,
        agent_streams=settings.max_streams,
        agent_message_bytes=settings.max_message_kib * 1024,
        frames_per_second=settings.frames_per_second,
        frames_burst=math.ceil(2 * settings.frames_per_second),
        registrations_per_address=settings.registrations_per_address,
        registrations_per_token=settings.registrations_per_token,
    )

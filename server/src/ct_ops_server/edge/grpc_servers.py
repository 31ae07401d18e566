"""The two gRPC servers behind the front door.

They listen on UNIX sockets in a private folder and differ only in what one connection may use: a lobby
connection has two streams and small messages, so that nobody without an identity can park memory here
(rule 2). There is no cap on RPCs over all connections: it would let the lobby starve the agents.
"""

from __future__ import annotations

from pathlib import Path

import grpc

from ct_ops_server.edge.agent_service import agent_service
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.rpc import ServiceParts


async def start_grpc_server(
    parts: ServiceParts,
    path: Path,
    *,
    message_bytes: int,
    streams: int,
    extra: tuple[tuple[str, int], ...] = (),
) -> grpc.aio.Server:
    """Start a server on a UNIX socket."""
    limits = parts.limits
    server = grpc.aio.server(options=(*_common(limits, message_bytes, streams), *extra))
    server.add_generic_rpc_handlers((agent_service(parts, message_bytes=message_bytes),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    return server


async def start_lobby(parts: ServiceParts, path: Path) -> grpc.aio.Server:
    """Start the server for callers without a valid identity."""
    limits = parts.limits
    return await start_grpc_server(
        parts,
        path,
        message_bytes=limits.lobby_message_bytes,
        streams=limits.lobby_streams,
        extra=(("grpc.http2.bdp_probe", 0), ("grpc.max_connection_idle_ms", int(limits.lobby_idle_s * 1000))),
    )


async def start_agents(parts: ServiceParts, path: Path) -> grpc.aio.Server:
    """Start the server for agents."""
    limits = parts.limits
    return await start_grpc_server(
        parts, path, message_bytes=limits.agent_message_bytes, streams=limits.agent_streams
    )


def _common(limits: Limits, message_bytes: int, streams: int) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", limits.message_backstop * message_bytes),
        ("grpc.max_concurrent_streams", streams),
        ("grpc.keepalive_time_ms", int(limits.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", int(limits.ping_interval_s * 1000)),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.http2.max_pings_without_data", 0),  # an idle stream is asked too whether it is still there
        # A burst of streams is refused with RESOURCE_EXHAUSTED unless these are raised.
        ("grpc.server.max_pending_requests", 100_000),
        ("grpc.server.max_pending_requests_hard_limit", 200_000),
        ("grpc.server_handshake_timeout_ms", 10_000),
    )

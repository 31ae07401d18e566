"""A connection to the server: credentials and options.

TLS with the route's roots only, and the agent's leaf when there is one. A PING every 30 s, also
without a stream, finds a peer that vanished; nothing is compressed, since payloads are small and
compressed secrets leak their length. A channel belongs to one identity and is never re-used for
another: gRPC cannot change a channel's leaf.
"""

import os
import time

# gRPC's fork handlers log at every child process; the agent never forks without exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# gRPC writes its own diagnostics to standard error, beside our log and unmasked.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from ct_ops_agent.control_plane import Route
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.transport.roots import in_order

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_PING_EVERY_MS = 30_000
_PING_TIMEOUT_MS = 10_000

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", _PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # retrying is the lifecycle's
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, without an old one's wait
)


def open_channel(route: Route, address: str, identity: Identity | None) -> grpc.aio.Channel:
    """Return a channel to one address; it dials when it is first used."""
    return grpc.aio.secure_channel(address, _credentials(route, identity), options=_options(route))


def _credentials(route: Route, identity: Identity | None) -> grpc.ChannelCredentials:
    roots = in_order(route.roots_pem, time.time()).encode() or None  # TLS looks at the same clock
    if identity is None:
        return grpc.ssl_channel_credentials(roots)
    return grpc.ssl_channel_credentials(
        roots, identity.keys.private_pem.reveal().encode(), identity.leaf_pem.encode()
    )


def _options(route: Route) -> list[tuple[str, int | str]]:
    if not route.server_name:
        return list(_OPTIONS)
    return [*_OPTIONS, ("grpc.ssl_target_name_override", route.server_name)]

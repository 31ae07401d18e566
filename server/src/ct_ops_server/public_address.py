"""Which address tokens carry: ``INGEST_PUBLIC_ADDRESS``, or the best guess there is."""

from __future__ import annotations

import socket

from ct_ops_server.config.schema import Settings


def advertised_addresses(settings: Settings, *, grpc_port: int) -> tuple[str, ...]:
    """Return where agents reach this server, most preferred first.

    Args:
        settings: an address that is configured wins.
        grpc_port: the port that is listened on; 0 when no server runs and none is configured.
    """
    if settings.public_addresses:
        return settings.public_addresses
    if grpc_port == 0:
        return ()
    return (with_port(settings.grpc_host or socket.getfqdn(), grpc_port),)


def with_port(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(address: str) -> str:
    """Return the host of ``host:port``, without brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")

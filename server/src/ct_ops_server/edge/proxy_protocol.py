"""The PROXY protocol, version 2: who a TCP balancer says its client is (rule 9).

Behind a balancer every connection comes from it, and every rule about addresses would mean all agents at once. So it
writes a header before the client's first byte. It is believed from configured networks only, and there it is required:
whoever could leave it out would be counted as the balancer. From anywhere else it is not looked for, and is garbage to TLS.

    12 bytes signature │ version, command │ family │ length (2) │ addresses, then TLVs, which are skipped

``LOCAL`` (the balancer's own health check) and ``PROXY`` of an unspecified family leave the address as it is. Exactly
the header is read: the next byte belongs to TLS.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_ADDRESS_BYTES = {_TCP4: 4, _TCP6: 16}
_LONGEST_BODY = 2048
"""Addresses take 36 bytes; what balancers add (certificates' names, ids of their networks) a few hundred more."""


class ProxyHeaderError(Exception):
    """No acceptable header. ``str()`` is one of a few sentences: it is a label in the metrics."""


class Balancers:
    """The networks whose word is believed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)

    def __contains__(self, address: object) -> bool:
        if not self._networks:
            return False
        found = ipaddress.ip_address(str(address).partition("%")[0])
        return any(found in network for network in self._networks if network.version == found.version)


async def read_client(read: Callable[[int], Awaitable[bytes]]) -> str | None:
    """Read a header; return the client's address, None when it names none.

    Args:
        read: returns exactly so many bytes, or raises EOFError.

    Raises:
        ProxyHeaderError: what came is none that we accept.
    """
    try:
        command, family, length = _fixed_part(await read(_FIXED.size))
        return _client(command, family, await read(length))
    except EOFError:
        raise ProxyHeaderError("left before the end of its PROXY header") from None


def _fixed_part(head: bytes) -> tuple[int, int, int]:
    signature, command, family, length = _FIXED.unpack(head)
    if head.startswith(b"PROXY "):
        raise ProxyHeaderError("PROXY header of version 1: have the balancer send version 2")
    if signature != SIGNATURE:
        raise ProxyHeaderError("no PROXY header")
    if command not in {_LOCAL, _PROXY}:
        raise ProxyHeaderError("PROXY header with an unknown version or command")
    if length > _LONGEST_BODY:
        raise ProxyHeaderError("PROXY header too long")
    return command, family, length


def _client(command: int, family: int, body: bytes) -> str | None:
    if command == _LOCAL or family == _UNSPECIFIED:
        return None
    size = _ADDRESS_BYTES.get(family)
    if size is None:
        raise ProxyHeaderError("PROXY header of another family than TCP over IPv4 and IPv6")
    if len(body) < 2 * size + 4:
        raise ProxyHeaderError("PROXY header without the addresses that it announces")
    address = ipaddress.ip_address(body[:size])
    return str(getattr(address, "ipv4_mapped", None) or address)


def reader_of(sock: socket.socket) -> Callable[[int], Awaitable[bytes]]:
    """Return how to read exactly so many bytes, and none more, from a socket that does not block."""
    loop = asyncio.get_running_loop()

    async def read(count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = await loop.sock_recv(sock, count - len(found))
            if not piece:
                raise EOFError
            found += piece
        return found

    return read

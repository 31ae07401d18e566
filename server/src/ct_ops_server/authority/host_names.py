"""By which names and addresses agents may call this host: what a newcomer's certificate must hold.

``localhost`` and the loopback addresses, the hostname, its fully qualified form, every interface's
address, and the hosts of the configured public addresses. Link-local addresses are left out: they
mean something on their own link only and carry a scope that certificates cannot hold.

The fully qualified name may need a slow or dead DNS server, so it is asked for with a deadline.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Iterable
from datetime import timedelta

import psutil

MAX_NAMES = 64
"""More would make every handshake carry kilobytes; the configured ones come first."""

DNS_DEADLINE = timedelta(seconds=2)

_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")


def local_names(public_hosts: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names and addresses of this host, the configured ones first.

    Args:
        public_hosts: hosts of the public addresses, without port and brackets.
    """
    hostname = socket.gethostname()
    loopback = ("localhost", "127.0.0.1", "::1")
    return wanted_names((*public_hosts, *loopback, hostname, _qualified(hostname), *_interface_addresses()))


def wanted_names(candidates: Iterable[str]) -> tuple[str, ...]:
    """Return the candidates that a certificate can hold, canonical, each once, at most ``MAX_NAMES``."""
    names = (_canonical_name(candidate) for candidate in candidates)
    return tuple(dict.fromkeys(name for name in names if name is not None))[:MAX_NAMES]


def _canonical_name(candidate: str) -> str | None:
    """Return a name in lower case or an address in its shortest form; None for what means nothing elsewhere."""
    try:
        address = ipaddress.ip_address(candidate.partition("%")[0])
    except ValueError:
        name = candidate.rstrip(".").lower()
        return name if _DNS_NAME.fullmatch(name) else None
    return None if address.is_link_local or address.is_unspecified or address.is_multicast else str(address)


def _interface_addresses() -> list[str]:
    families = (socket.AF_INET, socket.AF_INET6)
    return [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in families
    ]


def _qualified(hostname: str) -> str:
    """Return the fully qualified name, or the hostname when DNS does not answer in time."""
    answer = [hostname]

    def ask() -> None:
        answer.append(socket.getfqdn(hostname))

    asking = threading.Thread(target=ask, daemon=True)  # left behind when DNS hangs
    asking.start()
    asking.join(DNS_DEADLINE.total_seconds())
    return answer[-1]

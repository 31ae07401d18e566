"""Ports, hosts and ``host:port`` lists, as text. Pure: nothing is looked up.

An IPv6 address stands in brackets before a port (``[2001:db8::1]:9443``) and bare or in brackets
where no port follows. Results are canonical: addresses in shortest form, names in lower case.
"""

from __future__ import annotations

import ipaddress
import re

from ct_ops_proto.enrolment_token import ServerHint, format_token, make_secret

_MAX_PORT = 65535
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_LOOKS_LIKE_IPV4 = re.compile(r"[0-9.]+")


def parse_port(text: str) -> int:
    """Return a port to listen on; 0 lets the system choose. Raises ``ValueError``."""
    if not _PORT.fullmatch(text) or int(text) > _MAX_PORT:
        raise ValueError("is no port number")
    return int(text)


def parse_host(text: str) -> str:
    """Return a name or an address without brackets, canonical. Raises ``ValueError``."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        name = bare.lower().removesuffix(".")
    if bare != text or not _NAME.fullmatch(name) or _LOOKS_LIKE_IPV4.fullmatch(name):
        raise ValueError("is no host name and no address")
    return name


def parse_address(text: str) -> str:
    """Return ``host:port`` that agents can dial, canonical, IPv6 in brackets. Raises ``ValueError``."""
    host, separator, port = text.rpartition(":")
    if not separator or (":" in host and not host.startswith("[")):
        raise ValueError(f"has {text!r}, which is no host:port")
    try:
        parsed_host, parsed_port = parse_host(host), parse_port(port)
    except ValueError as error:
        raise ValueError(f"has {text!r}: a part of it {error}") from error
    if parsed_port == 0:
        raise ValueError(f"has {text!r}: agents cannot dial port 0")
    return f"[{parsed_host}]:{parsed_port}" if ":" in parsed_host else f"{parsed_host}:{parsed_port}"


def parse_addresses(text: str) -> tuple[str, ...]:
    """Return a comma list of ``host:port``, in order, each once.

    Raises:
        ValueError: one is malformed, or together they are too long for an enrolment token to carry.
    """
    addresses = tuple(dict.fromkeys(parse_address(part.strip()) for part in text.split(",") if part.strip()))
    if not addresses:
        raise ValueError("names no address")
    format_token(make_secret(bytes(20)), ServerHint(bytes(32), addresses))  # a rehearsal: do they fit?
    return addresses

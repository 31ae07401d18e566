"""Reading a PROXY header: what is believed, and what is closed."""

from __future__ import annotations

import io
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.edge.proxy_protocol import SIGNATURE, Balancers, ProxyHeaderError, read_client

IPV4 = ipaddress.ip_address("192.0.2.7").packed * 2 + struct.pack("!HH", 40_000, 9443)
IPV6 = ipaddress.ip_address("2001:db8::7").packed * 2 + struct.pack("!HH", 40_000, 9443)
MAPPED = ipaddress.ip_address("::ffff:192.0.2.7").packed * 2 + struct.pack("!HH", 40_000, 9443)
TLV = b"\x02\x00\x05ct-op"


def header(command: int, family: int, body: bytes) -> bytes:
    """Return a header with this body."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


async def client_of(sent: bytes) -> tuple[str | None, bytes]:
    """Return the client's address and what was left unread."""
    stream = io.BytesIO(sent)

    async def read(count: int) -> bytes:
        found = stream.read(count)
        if len(found) < count:
            raise EOFError
        return found

    return await read_client(read), stream.read()


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        (header(0x21, 0x11, IPV4), "192.0.2.7"),
        (header(0x21, 0x21, IPV6), "2001:db8::7"),
        (header(0x21, 0x21, MAPPED), "192.0.2.7"),
        (header(0x21, 0x11, IPV4 + TLV), "192.0.2.7"),
        (header(0x20, 0x00, b""), None),
        (header(0x20, 0x11, IPV4), None),
        (header(0x21, 0x00, TLV), None),
    ],
    ids=["tcp4", "tcp6", "tcp4 as tcp6", "with TLVs", "local", "local with addresses", "unspecified"],
)
async def test_a_header_names_its_client_and_leaves_the_next_byte_to_tls(
    sent: bytes, client: str | None
) -> None:
    """LOCAL and an unspecified family name nobody."""
    assert (client, b"\x16hello") == await client_of(sent + b"\x16hello")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 9443\r\n", "version 1"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20), "no PROXY header"),
        (header(0x31, 0x11, IPV4), "version or command"),
        (header(0x22, 0x11, IPV4), "version or command"),
        (header(0x21, 0x12, IPV4), "family"),
        (header(0x21, 0x31, bytes(216)), "family"),
        (header(0x21, 0x11, IPV4[:-1]), "announces"),
        (header(0x21, 0x11, b""), "announces"),
        (header(0x21, 0x21, IPV4), "announces"),
        (header(0x21, 0x11, IPV4 + bytes(2048)), "too long"),
        (header(0x21, 0x11, IPV4)[:-1], "left before"),
        (b"", "left before"),
    ],
    ids=[
        "v1", "TLS", "v3", "command", "UDP", "UNIX", "short", "empty", "v4 as v6", "oversized", "cut", "nothing",
    ],
)  # fmt: skip
async def test_attack_what_is_no_acceptable_header_is_refused_with_the_reason(
    sent: bytes, reason: str
) -> None:
    """Nothing is guessed, and a short body does not reach into the client's bytes."""
    with pytest.raises(ProxyHeaderError, match=reason):
        await client_of(sent)


@given(st.binary(max_size=64))
async def test_attack_any_bytes_are_a_header_or_refused(sent: bytes) -> None:
    """Also behind a good signature."""
    for start in (b"", SIGNATURE, SIGNATURE + b"\x21\x11"):
        try:
            await client_of(start + sent)
        except ProxyHeaderError:
            continue


def test_balancers_are_the_configured_networks_and_nobody_else() -> None:
    """Of both families; without a network nobody is one."""
    balancers = Balancers([ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32")])

    assert "192.0.2.9" in balancers
    assert "2001:db8::9" in balancers
    assert "198.51.100.1" not in balancers
    assert "fe80::1%eth0" not in balancers
    assert "192.0.2.9" not in Balancers(())

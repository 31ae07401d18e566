"""A CA of the right name that is not valid now never stands before one that is: gRPC takes the first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import permutations

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ct_ops_agent.control_plane import Route
from ct_ops_agent.identity.keystore import parse_pem, to_pem
from ct_ops_agent.transport.channel import open_channel
from ct_ops_agent.transport.roots import in_order

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "The Root of an Organisation")])


def root(begins: datetime, ends: datetime) -> x509.Certificate:
    """Return the root as it was issued for these days: the same name and the same key."""
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .sign(KEY, hashes.SHA256())
    )


ENDED, GOOD, COMING = (
    root(NOW - 900 * DAY, NOW - 100 * DAY),
    root(NOW - 100 * DAY, NOW + 100 * DAY),
    root(NOW + 100 * DAY, NOW + 900 * DAY),
)


def bundle(*roots: x509.Certificate) -> str:
    """Return a trust bundle."""
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in roots)


def server_credentials() -> grpc.ServerCredentials:
    """Return what a server presents whose certificate the root has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("server.example")]), critical=True)
        .sign(KEY, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return grpc.ssl_server_credentials([(pem, leaf.public_bytes(Encoding.PEM))])


@pytest.mark.parametrize("order", list(permutations((ENDED, GOOD, COMING))), ids=str)
async def test_a_server_is_believed_in_whatever_order_its_root_was_renewed(
    order: tuple[x509.Certificate, ...],
) -> None:
    """By gRPC itself, over TLS."""
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", server_credentials())
    await server.start()
    route = Route((f"127.0.0.1:{port}",), bundle(*order), "server.example")
    channel = open_channel(route, route.addresses[0], None)
    try:
        await asyncio.wait_for(channel.channel_ready(), 20)
    finally:
        await channel.close()
        await server.stop(0)


def test_what_is_valid_comes_first_and_everything_else_keeps_its_place() -> None:
    """By the moment, not by the order in which they were learnt; a bundle in order is left as it is."""
    assert in_order(bundle(GOOD, COMING), NOW.timestamp()) == bundle(GOOD, COMING)
    assert in_order(bundle(GOOD, COMING), (NOW + 200 * DAY).timestamp()) == bundle(COMING, GOOD)
    assert in_order(bundle(ENDED, COMING, GOOD), NOW.timestamp()) == bundle(GOOD, ENDED, COMING)
    assert in_order("", NOW.timestamp()) == ""


@pytest.mark.parametrize("year", [1999, 2075])
def test_dates_of_every_century_are_read(year: int) -> None:
    """Of both forms of a time: from 2050 on another one is used."""
    other = root(datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, tzinfo=UTC))

    assert in_order(bundle(other, GOOD), NOW.timestamp()) == bundle(GOOD, other)
    assert in_order(bundle(GOOD, other), datetime(year, 7, 1, tzinfo=UTC).timestamp()) == bundle(other, GOOD)


def test_what_cannot_be_read_stays_where_it_is_and_harms_nobody() -> None:
    """Whether it is believed is for TLS to say."""
    ((_, der),) = parse_pem(bundle(ENDED))
    cut = [der[:length] for length in range(len(der))]
    changed = [der[:at] + b"\xff" + der[at + 1 :] for at in range(120)]
    for junk in (*cut, *changed, b"\x30\x84\xff\xff\xff\xff", b"\x30\x02\x30\x00"):
        before = to_pem("CERTIFICATE", junk)
        assert set(parse_pem(in_order(before + bundle(GOOD), NOW.timestamp()))) == set(
            parse_pem(before + bundle(GOOD))
        )

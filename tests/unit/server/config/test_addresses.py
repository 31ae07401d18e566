"""Ports, hosts and host:port lists, as operators write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.config.addresses import parse_address, parse_addresses, parse_host, parse_port


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("9443", 9443), ("65535", 65535), ("09443", 9443)])
def test_a_port_is_a_number_up_to_65535(text: str, expected: int) -> None:
    """0 is allowed: the system chooses."""
    assert expected == parse_port(text)


@pytest.mark.parametrize("text", ["", "65536", "-1", "+1", "80 ", "http", "9_443", "1e3", "٩٤٤٣"])
def test_what_is_no_port_is_refused(text: str) -> None:
    """Garbage is never read as some number."""
    with pytest.raises(ValueError, match="no port"):
        parse_port(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::", "::"),
        ("[2001:DB8::0001]", "2001:db8::1"),
        ("Ops.Example.com.", "ops.example.com"),
        ("localhost", "localhost"),
        ("db_1", "db_1"),
    ],
)
def test_a_host_is_a_name_or_an_address(text: str, expected: str) -> None:
    """The result is canonical and without brackets."""
    assert expected == parse_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "*",
        "a b",
        "300.1.1.1",
        "1.2.3",
        "[ops.example.com]",
        "https://ops",
        "ops:9443",
        "-x",
        "x" * 64,
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    """Neither a URL nor a mistyped address passes as a name."""
    with pytest.raises(ValueError, match="no host name and no address"):
        parse_host(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ops.example.com:9443", "ops.example.com:9443"),
        ("192.0.2.1:443", "192.0.2.1:443"),
        ("[2001:DB8::1]:9443", "[2001:db8::1]:9443"),
    ],
)
def test_an_address_is_host_and_port(text: str, expected: str) -> None:
    """IPv6 keeps its brackets."""
    assert expected == parse_address(text)


@pytest.mark.parametrize(
    "text", ["ops", "ops:", ":9443", "2001:db8::1:9443", "ops:0", "ops:99999", "[::1]", "a:b:1"]
)
def test_what_agents_could_not_dial_is_refused(text: str) -> None:
    """No port, port 0, or an IPv6 address without brackets."""
    with pytest.raises(ValueError, match=r"host:port|a part of it|port 0"):
        parse_address(text)


def test_a_list_keeps_its_order_and_drops_repetitions() -> None:
    """The most preferred address stays first; spaces and empty parts do not matter."""
    assert ("b:2", "a:1") == parse_addresses("b:2, a:1,,B:2 ,")


@pytest.mark.parametrize("text", [",", "a:1,b", "x" * 60 + ":9443"])
def test_a_list_that_a_token_cannot_carry_is_refused(text: str) -> None:
    """Found when the server starts, not when the first token is made."""
    with pytest.raises(ValueError, match=r"names no address|no host:port|too long for a token"):
        parse_addresses(text)


@given(st.text(max_size=40))
def test_whatever_is_written_is_an_address_or_refused(text: str) -> None:
    """An accepted address reads the same when it is read again."""
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert address == parse_address(address)

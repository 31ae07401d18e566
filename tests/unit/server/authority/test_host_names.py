"""The names a newcomer's certificate holds."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta

import pytest

from ct_ops_server.authority import host_names
from ct_ops_server.authority.host_names import MAX_NAMES, local_names, wanted_names


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        ("Host.Example.COM.", "host.example.com"),
        ("build_server", "build_server"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fd00::2%eth0", "fd00::2"),
        ("fe80::1%eth0", None),
        ("169.254.3.4", None),
        ("0.0.0.0", None),
        ("ff02::1", None),
        ("", None),
        ("two words", None),
        ("ümlaut.example.com", None),
        ("a" * 64 + ".example.com", None),
        ("-leading.example.com", None),
    ],
)
def test_candidates_are_canonical_or_left_out(candidate: str, expected: str | None) -> None:
    """Names in lower case, addresses in shortest form; what means nothing on other hosts is left out."""
    assert (() if expected is None else (expected,)) == wanted_names([candidate])


def test_each_name_appears_once_in_order() -> None:
    """Configured names come first and are not repeated."""
    assert ("b", "a", "::1") == wanted_names(["b", "a", "B", "::1", "0::1"])


def test_a_host_with_hundreds_of_addresses_keeps_the_first_names() -> None:
    """Container hosts have hundreds of interfaces; the certificate stays small."""
    names = wanted_names(
        ["ops.example.com", *(f"10.0.{number // 256}.{number % 256}" for number in range(500))]
    )

    assert len(names) == MAX_NAMES
    assert "ops.example.com" == names[0]


def test_local_names_hold_loopback_and_the_public_hosts() -> None:
    """Whatever this host is called, it can be reached from itself and by its configured name."""
    names = local_names(["ops.example.com"])

    assert ("ops.example.com", "localhost", "127.0.0.1", "::1") == names[:4]
    assert socket.gethostname().lower() in names


def test_a_dns_server_that_never_answers_does_not_hold_up_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fully qualified name is given up after a deadline."""
    answered = threading.Event()

    def never(_: str) -> str:
        answered.wait(10)
        return "too-late.example.com"

    monkeypatch.setattr(host_names, "DNS_DEADLINE", timedelta(milliseconds=20))
    monkeypatch.setattr(socket, "getfqdn", never)
    names = local_names()
    answered.set()

    assert "too-late.example.com" not in names
    assert "localhost" in names


def test_the_fully_qualified_name_is_included(monkeypatch: pytest.MonkeyPatch) -> None:
    """What DNS calls this host is a name that agents may use."""
    monkeypatch.setattr(socket, "getfqdn", lambda _: "this.host.example.com")

    assert "this.host.example.com" in local_names()

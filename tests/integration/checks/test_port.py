"""Port checks against real listeners."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from check_peers import IPV6, free_port, listening, run, silence
from ct_ops_agent.checks.port import probe
from ct_ops_agent.work import CheckStatus
from ct_ops_proto.checks import PortCheck

needs_ipv6 = pytest.mark.skipif(not IPV6, reason="this host has no IPv6 loopback")


async def test_an_open_port_passes() -> None:
    """In the words of existing agents; the server need not say anything."""
    async with listening(silence) as port:
        verdict = await run(probe, PortCheck(host="127.0.0.1", port=port))

    assert (CheckStatus.PASS, f"port {port} reachable") == (verdict.status, verdict.output)


async def test_a_closed_port_fails_with_the_reason() -> None:
    """Also in the words of existing agents."""
    verdict = await run(probe, PortCheck(host="127.0.0.1", port=free_port()))

    assert (CheckStatus.FAIL, "connection failed: Connection refused") == (verdict.status, verdict.output)


@needs_ipv6
async def test_an_ipv6_address_is_an_address() -> None:
    """Existing agents join host and port with a colon, which no IPv6 address survives."""
    async with listening(silence, "::1") as port:
        verdict = await run(probe, PortCheck(host="::1", port=port))

    assert CheckStatus.PASS == verdict.status


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_name_with_two_addresses_needs_one_that_answers(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may listen on IPv4 or IPv6 only."""
    resolve = socket.getaddrinfo

    def both(_host: str, port: int, **options: Any) -> list[Any]:
        return [*resolve("::1", port, **options), *resolve("127.0.0.1", port, **options)]

    async with listening(silence, host) as port:
        monkeypatch.setattr("ct_ops_agent.checks.attempt.socket.getaddrinfo", both)
        verdict = await run(probe, PortCheck(host="both.example.com", port=port))

    assert CheckStatus.PASS == verdict.status


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 200])
async def test_a_name_that_is_nobodys_fails(host: str) -> None:
    """Whatever the resolver thinks of it, it is a verdict."""
    verdict = await run(probe, PortCheck(host=host, port=80))

    assert CheckStatus.FAIL == verdict.status
    assert verdict.output.startswith("connection failed: ")

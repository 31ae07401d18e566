"""Certificate checks against real TLS, also behind SMTP, IMAP, POP3 and PostgreSQL."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from check_peers import (
    DIALOGUES,
    IPV6,
    LOCAL_NAMES,
    PrivateKey,
    Signed,
    endlessly,
    free_port,
    listening,
    run,
    saying,
    sign,
    silence,
    upgrading,
)
from ct_ops_agent.checks.certificate import probe
from ct_ops_agent.checks.verdict import Verdict
from ct_ops_agent.work import CheckStatus
from ct_ops_proto.checks import CertificateCheck

ROOT = sign("Test Root", is_ca=True)


async def look_at(signed: Signed, folder: Path, host: str = "127.0.0.1", **config: Any) -> Verdict:
    """Serve a certificate and check it."""

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(serve, host, signed.context(folder)) as port:
        return await run(probe, CertificateCheck(host=host, port=port, **config))


async def test_a_certificate_within_its_dates_passes_with_a_report(tmp_path: Path) -> None:
    """Everything that a certificate page shows, in JSON; that nobody trusts its CA is said, and is no failure."""
    names = (
        *LOCAL_NAMES,
        x509.RFC822Name("admin@example.com"),
        x509.UniformResourceIdentifier("spiffe://example.com/web"),
    )
    signed = sign("web-1", by=ROOT, names=names)

    verdict = await look_at(signed, tmp_path)
    report = json.loads(verdict.output)

    assert CheckStatus.PASS == verdict.status
    assert "web-1" == report["common_name"]
    assert "CN=Test Root" == report["issuer"]
    assert [
        "DNS:localhost",
        "IP:127.0.0.1",
        "IP:::1",
        "email:admin@example.com",
        "URI:spiffe://example.com/web",
    ] == report["sans"]
    assert signed.certificate.fingerprint(hashes.SHA256()).hex() == report["fingerprint_sha256"]
    assert f"{signed.certificate.serial_number:x}" == report["serial_number"]
    assert ("EC secp256r1", "ecdsa-with-SHA256") == (report["key_algorithm"], report["signature_algorithm"])
    assert signed.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ") == report["not_after"]
    assert (89, "") == (report["days_left"], report["problem"])
    assert ["Test Root"] == [issuer["common_name"] for issuer in report["chain"]]
    assert (False, True) == (report["trusted"], "certificate" in report["trust_problem"])


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "EC secp384r1"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (rsa.generate_private_key(65537, 2048), "RSA 2048"),
    ],
)
async def test_every_kind_of_key_is_read(key: PrivateKey, named: str, tmp_path: Path) -> None:
    """The existing system reads RSA only."""
    verdict = await look_at(sign(key=key), tmp_path)

    assert (CheckStatus.PASS, named) == (verdict.status, json.loads(verdict.output)["key_algorithm"])


@pytest.mark.parametrize(
    ("begins", "ends", "problem"),
    [(-10, -1, "expired on "), (1, 10, "not valid before "), (-10, 5, "expires on ")],
)
async def test_dates_that_are_not_right_fail(begins: int, ends: int, problem: str, tmp_path: Path) -> None:
    """Expired, not yet valid, or fewer days left than wished; the report comes all the same."""
    signed = sign(begins=timedelta(days=begins), ends=timedelta(days=ends))

    verdict = await look_at(signed, tmp_path, min_days_left=7)

    assert CheckStatus.FAIL == verdict.status
    assert json.loads(verdict.output)["problem"].startswith(problem)


@pytest.mark.parametrize("protocol", sorted(DIALOGUES))
async def test_tls_behind_another_protocol_is_found(protocol: str, tmp_path: Path) -> None:
    """The existing system speaks plain TLS to mail ports, which fails."""
    context = sign("mail-1").context(tmp_path)
    async with listening(upgrading(protocol, context)) as port:
        verdict = await run(probe, CertificateCheck(host="127.0.0.1", port=port, starttls=protocol))  # type: ignore[arg-type]

    assert (CheckStatus.PASS, "mail-1") == (verdict.status, json.loads(verdict.output)["common_name"])


@pytest.mark.skipif(not IPV6, reason="this host has no IPv6 loopback")
async def test_a_port_on_ipv6_is_looked_at(tmp_path: Path) -> None:
    """With the address as it is written everywhere else, without brackets."""
    verdict = await look_at(sign(names=LOCAL_NAMES), tmp_path, host="::1")

    assert CheckStatus.PASS == verdict.status


async def test_the_server_name_is_asked_for(tmp_path: Path) -> None:
    """SNI decides which of several certificates a port shows."""
    asked: list[str | None] = []
    context = sign().context(tmp_path)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    async with listening(silence, tls=context) as port:
        verdict = await run(
            probe, CertificateCheck(host="127.0.0.1", port=port, server_name="shop.example.com")
        )

    assert CheckStatus.PASS == verdict.status
    assert {"shop.example.com"} == set(asked)


async def test_a_trusted_port_is_said_to_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then one connection is enough. OpenSSL reads the CAs of the host from where this variable says."""
    ca = tmp_path / "ca.pem"
    ca.write_text(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))

    verdict = await look_at(sign(by=ROOT, names=LOCAL_NAMES), tmp_path)
    report = json.loads(verdict.output)

    assert (True, "") == (report["trusted"], report["trust_problem"])


async def test_another_name_is_a_trust_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust is not only who signed it."""
    ca = tmp_path / "ca.pem"
    ca.write_text(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    other = (x509.IPAddress(ipaddress.ip_address("192.0.2.1")),)

    verdict = await look_at(sign(by=ROOT, names=other), tmp_path)
    report = json.loads(verdict.output)

    assert CheckStatus.PASS == verdict.status
    assert not report["trusted"]
    assert "mismatch" in report["trust_problem"]


async def test_nobody_there_is_an_error() -> None:
    """Nothing is known about a certificate that was not seen."""
    verdict = await run(probe, CertificateCheck(host="127.0.0.1", port=free_port()))

    assert (CheckStatus.ERROR, "connection failed: Connection refused") == (verdict.status, verdict.output)


@pytest.mark.parametrize("name", ["", ".", "a..b", "x" * 250])
async def test_a_server_name_that_cannot_be_asked_for_is_an_error(name: str, tmp_path: Path) -> None:
    """Not a crash; an empty one is none."""
    verdict = await look_at(sign(), tmp_path, server_name=name)

    assert (CheckStatus.ERROR if name else CheckStatus.PASS) == verdict.status


HOSTILE = {
    "no newline": endlessly(b"2" * 4096),
    "endless lines": endlessly(b"220-still greeting\r\n"),
    "drip": endlessly(b"2", pause=0.05),
    "no offer": saying(b"220 mail\r\n250 HELP\r\n"),
    "injection": saying(b"220 mail\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n250 forged\r\n"),
    "binary": saying(bytes(range(256)) * 20),
    "hangs up": saying(),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_mail_server_costs_little(kind: str) -> None:
    """Whatever it says before TLS is bounded in bytes and in time, and ends as an error."""
    async with listening(HOSTILE[kind]) as port:
        config = CertificateCheck(host="127.0.0.1", port=port, starttls="smtp")
        async with asyncio.timeout(10):
            verdict = await run(probe, config, seconds=1.0)

    assert CheckStatus.ERROR == verdict.status
    assert verdict.output.isprintable()
    assert len(verdict.output) < 400


async def test_a_port_without_tls_is_an_error() -> None:
    """SSH answers with a line of its own."""
    async with listening(saying(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        verdict = await run(probe, CertificateCheck(host="127.0.0.1", port=port))

    assert CheckStatus.ERROR == verdict.status

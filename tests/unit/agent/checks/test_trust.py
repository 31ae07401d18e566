"""Whom TLS checks believe."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from check_peers import sign
from ct_ops_agent.checks.trust import SystemTrust, own_trust, trust_in_nobody

ROOT = sign("Root", is_ca=True)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "ca.pem"
    file.write_text(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return file


def names(context: ssl.SSLContext) -> list[str]:
    subjects: list[Any] = [each["subject"] for each in context.get_ca_certs()]
    return [value for ((_name, value),) in (subject[-1] for subject in subjects)]


def test_the_hosts_authorities_are_read_once(bundle: Path) -> None:
    """They cost more than the check."""
    trust = SystemTrust()

    assert trust.context() is trust.context()
    assert ["Root"] == names(trust.context())


def test_they_are_read_again_when_they_have_changed(bundle: Path) -> None:
    """An operator who adds a CA does not restart the agent."""
    trust = SystemTrust()
    before = trust.context()
    bundle.write_text(ROOT.pem + sign("Another", is_ca=True).pem)
    os.utime(bundle, (1, 1))

    assert ["Root"] == names(before)
    assert ["Another", "Root"] == sorted(names(trust.context()))


def test_a_host_without_authorities_believes_nobody(bundle: Path) -> None:
    """That is an answer, not a crash."""
    bundle.unlink()

    assert [] == names(SystemTrust().context())


def test_what_sends_something_verifies() -> None:
    """Only the look at a certificate takes all of them."""
    contexts = (own_trust(ROOT.pem), SystemTrust().context(), trust_in_nobody())

    assert [True, True, False] == [context.check_hostname for context in contexts]
    assert [ssl.CERT_REQUIRED, ssl.CERT_REQUIRED, ssl.CERT_NONE] == [
        context.verify_mode for context in contexts
    ]

"""The pinned HTTPS certificate: a public file, replaced only by a certificate."""

from pathlib import Path

from ct_ops_agent.server_pin import SERVER_CERTIFICATE_NAME, ServerPin, fingerprint_of
from fakes.conforming_server import make_authority

FIRST, SECOND = make_authority("First").pem, make_authority("Second").pem


def test_nothing_is_pinned_on_a_new_host(tmp_path: Path) -> None:
    """The server is told so by an empty fingerprint."""
    assert "" == ServerPin(tmp_path).fingerprint


def test_what_an_installer_left_is_pinned(tmp_path: Path) -> None:
    """It stays readable for everybody: it is no secret."""
    path = tmp_path / SERVER_CERTIFICATE_NAME
    path.write_text(FIRST)
    path.chmod(0o644)

    assert fingerprint_of(FIRST) == ServerPin(tmp_path).fingerprint
    assert 0o644 == path.stat().st_mode & 0o777


def test_a_pushed_certificate_is_pinned_from_now_on(tmp_path: Path) -> None:
    """Also after a restart."""
    pin = ServerPin(tmp_path)
    pin.keep(FIRST)
    pin.keep(SECOND)

    assert fingerprint_of(SECOND) == pin.fingerprint == ServerPin(tmp_path).fingerprint
    assert 0o644 == (tmp_path / SERVER_CERTIFICATE_NAME).stat().st_mode & 0o777


def test_what_is_no_certificate_is_not_pinned(tmp_path: Path) -> None:
    """The one before stays."""
    pin = ServerPin(tmp_path)
    pin.keep(FIRST)
    pin.keep("no certificate")

    assert fingerprint_of(FIRST) == pin.fingerprint

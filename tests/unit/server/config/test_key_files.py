"""Certificates and keys that the operator named are looked at before the start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.config.load import check, load_settings

_NOW = datetime(2026, 3, 1, tzinfo=UTC)


class _Pair:
    """A certificate and its key in two files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert_file, self.key_file = folder / f"{name}.crt", folder / f"{name}.key"
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.Name([]))
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(_NOW)
            .not_valid_after(_NOW + timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )
        self.cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.write_key(serialization.NoEncryption())

    def write_key(self, encryption: serialization.KeySerializationEncryption) -> None:
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        self.key_file.write_bytes(pem)

    def environ(self, **changes: Path) -> dict[str, str]:
        named = {"INGEST_TLS_CERT": self.cert_file, "INGEST_TLS_KEY": self.key_file, **changes}
        return {name: str(path) for name, path in named.items()}


@pytest.fixture
def pair(tmp_path: Path) -> _Pair:
    return _Pair(tmp_path, "server")


def _names(environ: dict[str, str]) -> list[str]:
    return [problem.name for problem in check(environ, env_file=Path("/nonexistent/server.env"))]


def test_a_matching_pair_is_accepted(pair: _Pair) -> None:
    """Certificate, key and CA reach the settings as paths."""
    environ = pair.environ(INGEST_TLS_CA=pair.cert_file)

    settings = load_settings(environ, env_file=Path("/nonexistent/server.env"))

    assert pair.cert_file == settings.tls_cert == settings.tls_ca
    assert pair.key_file == settings.tls_key


@pytest.mark.parametrize(
    ("given", "problem"), [("INGEST_TLS_CERT", "INGEST_TLS_KEY"), ("INGEST_TLS_KEY", "INGEST_TLS_CERT")]
)
def test_half_a_pair_is_a_problem(pair: _Pair, given: str, problem: str) -> None:
    """The missing half is named."""
    assert [problem] == _names({given: pair.environ()[given]})


def test_a_ca_alone_is_a_problem(pair: _Pair) -> None:
    """It would be silently without effect."""
    assert ["INGEST_TLS_CA"] == _names({"INGEST_TLS_CA": str(pair.cert_file)})


def test_set_but_unreadable_is_fatal_and_all_are_listed(pair: _Pair, tmp_path: Path) -> None:
    """A certificate that cannot be read never means one of our own."""
    missing = {"INGEST_TLS_CERT": tmp_path / "a", "INGEST_TLS_KEY": tmp_path / "b", "INGEST_TLS_CA": tmp_path}

    assert list(missing) == _names(pair.environ(**missing))


def test_what_is_no_pem_is_a_problem(pair: _Pair, tmp_path: Path) -> None:
    """DER, or a file taken for another, is told by name."""
    (tmp_path / "der").write_bytes(b"\x30\x82")
    der = tmp_path / "der"

    environ = pair.environ(INGEST_TLS_CERT=der, INGEST_TLS_KEY=der, INGEST_TLS_CA=der)

    assert ["INGEST_TLS_CERT", "INGEST_TLS_KEY", "INGEST_TLS_CA"] == _names(environ)


def test_a_key_of_another_certificate_is_a_problem(pair: _Pair, tmp_path: Path) -> None:
    """Found before the first handshake fails."""
    assert ["INGEST_TLS_KEY"] == _names(pair.environ(INGEST_TLS_KEY=_Pair(tmp_path, "other").key_file))


def test_an_encrypted_key_is_a_problem(pair: _Pair) -> None:
    """The TLS library would wait for a passphrase on a terminal that nobody watches."""
    pair.write_key(serialization.BestAvailableEncryption(b"passphrase"))

    (problem,) = check(pair.environ(), env_file=Path("/nonexistent/server.env"))

    assert "INGEST_TLS_KEY" == problem.name
    assert "encrypted" in problem.what


@pytest.mark.parametrize(
    ("path", "expected"),
    [("new.pem", []), (".", ["INGEST_JWT_KEY_FILE"]), ("no/new.pem", ["INGEST_JWT_KEY_FILE"])],
)
def test_a_signing_key_may_be_missing_but_not_unreadable(
    tmp_path: Path, path: str, expected: list[str]
) -> None:
    """It is generated when missing, if its folder is there."""
    assert expected == _names({"INGEST_JWT_KEY_FILE": str(tmp_path / path)})


def test_a_named_secret_that_is_missing_is_a_mount_that_failed(tmp_path: Path) -> None:
    """Generating one there could put it on a disk that is gone after the next boot, and every key with it."""
    secret = tmp_path / "run" / "secret"

    (problem,) = check({"INGEST_SECRET_FILE": str(secret)}, env_file=Path("/nonexistent/server.env"))
    assert f"openssl rand -hex 32 > {secret}" in problem.remedy

    inside = {"INGEST_DATA_DIR": str(tmp_path), "INGEST_SECRET_FILE": str(tmp_path / "secret")}
    assert [] == _names(inside)


def test_a_named_secret_is_accepted_when_it_is_there(tmp_path: Path) -> None:
    """Readable is enough here; the authority looks at its content."""
    (tmp_path / "secret").write_text("0" * 64)

    assert [] == _names({"INGEST_SECRET_FILE": str(tmp_path / "secret")})
    assert ["INGEST_SECRET_FILE"] == _names({"INGEST_SECRET_FILE": str(tmp_path)})

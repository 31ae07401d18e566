"""Private keys at rest are encrypted under the installation's secret, readable by a plain tool."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ct_ops_server.authority.errors import AuthorityError, WrongSecretError
from ct_ops_server.authority.sealing import (
    SealingSecret,
    load_key,
    load_or_create_key,
    load_or_create_secret,
    seal,
)


def _generate() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_generated_secret_is_64_hex_characters_0600(data_dir: Path) -> None:
    """A newcomer's secret is 32 random bytes as text, private, and the same at the next start."""
    made = load_or_create_secret(data_dir / "fresh", random=lambda count: b"\xab" * count)
    again = load_or_create_secret(data_dir / "fresh")

    assert b"ab" * 32 == made.passphrase == again.passphrase
    assert 0o600 == stat.S_IMODE((data_dir / "fresh").stat().st_mode)
    assert 1 == len(made.made)
    assert () == again.made


def test_the_secret_is_not_in_its_repr(secret: SealingSecret) -> None:
    """Printing the value shows the file and never the passphrase."""
    assert secret.passphrase.decode() not in repr(secret)


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n", b"\nsecond line is long enough"])
def test_a_secret_too_short_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty or typed-in secret is an error that says how to make a good one."""
    (tmp_path / "secret").write_bytes(content)

    with pytest.raises(AuthorityError, match="openssl rand -hex 32"):
        load_or_create_secret(tmp_path / "secret")


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"\nmore\n"])
def test_the_first_line_is_the_secret(tmp_path: Path, ending: bytes) -> None:
    """Line ends and further lines do not belong to the secret, as OpenSSL reads it."""
    (tmp_path / "secret").write_bytes(b"0123456789abcdef" + ending)

    assert b"0123456789abcdef" == load_or_create_secret(tmp_path / "secret").passphrase


def test_openssl_opens_a_sealed_key(data_dir: Path, secret: SealingSecret) -> None:
    """In an emergency a plain tool and the secret file open a sealed key."""
    load_or_create_key(data_dir / "some.key", secret, _generate)

    command = [
        "openssl",
        "pkey",
        "-in",
        str(data_dir / "some.key"),
        "-passin",
        f"file:{secret.file}",
        "-noout",
    ]
    assert 0 == subprocess.run(command, check=False).returncode


def test_a_sealed_key_comes_back(data_dir: Path, secret: SealingSecret) -> None:
    """What was generated at the first start is loaded at the second, and is not in clear on disk."""
    first = load_or_create_key(data_dir / "some.key", secret, _generate)
    second = load_or_create_key(data_dir / "some.key", secret, _generate)

    assert first.made
    assert not second.made
    assert first.key.private_bytes(*_CLEAR) == second.key.private_bytes(*_CLEAR)
    assert b"ENCRYPTED PRIVATE KEY" in (data_dir / "some.key").read_bytes()


def test_another_secret_is_told_from_a_damaged_file(
    data_dir: Path, secret: SealingSecret, tmp_path: Path
) -> None:
    """The error of a wrong secret names the key file, the secret file and the variable."""
    load_or_create_key(data_dir / "some.key", secret, _generate)
    (tmp_path / "other").write_text("f" * 64)
    other = load_or_create_secret(tmp_path / "other")

    with pytest.raises(WrongSecretError, match="INGEST_SECRET_FILE") as caught:
        load_key(data_dir / "some.key", other)

    assert str(data_dir / "some.key") in str(caught.value)
    assert str(other.file) in str(caught.value)
    assert "f" * 64 not in str(caught.value)


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8]
)
def test_an_unsealed_key_of_an_existing_system_is_read_and_not_rewritten(
    data_dir: Path, secret: SealingSecret, rsa_key: rsa.RSAPrivateKey, form: serialization.PrivateFormat
) -> None:
    """PKCS#1 and PKCS#8 in clear are used as they are: another program may read them too."""
    pem = rsa_key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (data_dir / "jwt_key.pem").write_bytes(pem)

    stored = load_or_create_key(data_dir / "jwt_key.pem", secret, _generate)

    assert not stored.made
    assert isinstance(stored.key, rsa.RSAPrivateKey)
    assert (data_dir / "jwt_key.pem").read_bytes() == pem


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_file_is_an_error(data_dir: Path, secret: SealingSecret, content: bytes) -> None:
    """A key file that holds no key is never replaced by a new key."""
    (data_dir / "some.key").write_bytes(content)

    with pytest.raises(AuthorityError, match="holds no private key"):
        load_or_create_key(data_dir / "some.key", secret, _generate)

    assert (data_dir / "some.key").read_bytes() == content


def test_the_loser_of_a_race_uses_the_winners_key(data_dir: Path, secret: SealingSecret) -> None:
    """Two processes that start at once end with one key."""
    winner = _generate()

    def generate_while_another_wins() -> ec.EllipticCurvePrivateKey:
        (data_dir / "some.key").write_bytes(seal(winner, secret))
        return _generate()

    stored = load_or_create_key(data_dir / "some.key", secret, generate_while_another_wins)

    assert not stored.made
    assert stored.key.private_bytes(*_CLEAR) == winner.private_bytes(*_CLEAR)


_CLEAR = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

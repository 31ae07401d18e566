"""The private key, in every form it was ever written."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.keystore import (
    KeyPair,
    keep_key_pair,
    load_key_pair,
    parse_pem,
    parse_private_key,
    parse_public_key,
    to_pem,
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SEED = PRIVATE.private_bytes_raw()
PUBLIC = PRIVATE.public_key().public_bytes_raw()
KEYS = KeyPair(SEED, PUBLIC)
PKCS8 = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PKCS8_V2 = bytes.fromhex("3051020101300506032b657004220420") + SEED + bytes.fromhex("812100") + PUBLIC


@pytest.mark.parametrize(
    "text",
    [
        to_pem("PRIVATE KEY", SEED),
        to_pem("PRIVATE KEY", SEED + PUBLIC),
        PKCS8,
        to_pem("PRIVATE KEY", PKCS8_V2),
    ],
    ids=["seed", "seed and public key", "PKCS#8", "PKCS#8 version 2"],
)
def test_every_form_of_a_key_is_read(text: str, tmp_path: Path) -> None:
    """Raw as existing agents wrote it, and as standard tools do; the public half may be missing."""
    (tmp_path / "agent_key.pem").write_text(text)

    assert KEYS == load_key_pair(tmp_path)


def test_line_ends_and_text_around_do_not_matter() -> None:
    """A key that went through an editor of another system."""
    text = "a comment\r\n" + PKCS8.replace("\n", "\r\n")

    found = parse_private_key(text)

    assert found
    assert SEED == found.seed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no PEM",
        to_pem("PRIVATE KEY", b"short"),
        to_pem("PUBLIC KEY", PUBLIC),
        "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
        generate_private_key(SECP256R1())
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode(),
    ],
    ids=["empty", "text", "short", "public", "no base64", "P-256"],
)
def test_what_is_no_ed25519_key_is_refused_and_left(text: str, tmp_path: Path) -> None:
    """A file that cannot be used is named, with what to do, and not replaced."""
    (tmp_path / "agent_key.pem").write_text(text)

    with pytest.raises(DataDirectoryError, match="no Ed25519 private key"):
        load_key_pair(tmp_path)

    assert text == (tmp_path / "agent_key.pem").read_text()


def test_a_key_is_written_so_that_standard_tools_read_it(tmp_path: Path) -> None:
    """PKCS#8 for openssl, the raw public form for existing servers."""
    keep_key_pair(tmp_path, KEYS)

    shown = subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "agent_key.pem", "-noout", "-text"],
        capture_output=True,
        check=True,
    )
    loaded = load_pem_private_key(KEYS.private_pem.reveal().encode(), None)

    assert b"ED25519" in shown.stdout.upper()
    assert isinstance(loaded, Ed25519PrivateKey)
    assert SEED == loaded.private_bytes_raw()
    assert [("PUBLIC KEY", PUBLIC)] == list(parse_pem((tmp_path / "agent_key.pub").read_text()))
    assert 0o600 == (tmp_path / "agent_key.pem").stat().st_mode & 0o777


def test_a_private_key_is_never_overwritten(tmp_path: Path) -> None:
    """Whatever happens, the first key of a host stays."""
    keep_key_pair(tmp_path, KEYS)

    with pytest.raises(DataDirectoryError, match="File exists"):
        keep_key_pair(tmp_path, make_key_pair())

    assert KEYS == load_key_pair(tmp_path)


def test_a_host_without_a_key_has_none(tmp_path: Path) -> None:
    """Loading may find nothing."""
    assert load_key_pair(tmp_path) is None


def test_public_keys_are_read_raw_and_standard() -> None:
    """Both forms mean the same 32 bytes."""
    spki = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    assert PUBLIC == parse_public_key(KEYS.public_pem) == parse_public_key(spki)
    assert parse_public_key("nothing") is None


def test_the_key_id_is_that_of_the_canonical_form() -> None:
    """SHA-256 of the SubjectPublicKeyInfo, as the server and `openssl` compute it."""
    private = Ed25519PrivateKey.generate()
    keys = KeyPair(private.private_bytes_raw(), private.public_key().public_bytes_raw())
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert hashlib.sha256(spki).hexdigest() == keys.key_id


def test_attack_a_key_file_with_wide_permissions_is_closed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever could read it had time to copy it: it is closed, and the log says so."""
    keys = make_key_pair()
    keep_key_pair(tmp_path, keys)
    (tmp_path / "agent_key.pem").chmod(0o644)

    assert keys == load_key_pair(tmp_path)
    assert 0o600 == (tmp_path / "agent_key.pem").stat().st_mode & 0o777
    assert "agent_key.pem could be read by others (mode 0644); it is 0600 now" in caplog.text

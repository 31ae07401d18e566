"""The key that signs agent tokens: where it is found, and how it is published."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.jwks import (
    SigningKey,
    jwks,
    key_name,
    load_or_create_signing_key,
    parse_public_keys,
)
from ct_ops_server.authority.sealing import SealingSecret

_NOWHERE = Path("/nonexistent/jwt_key.pem")


def _write(path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(pem)
    return pem


def _load(
    data_dir: Path, secret: SealingSecret, *, configured: Path | None = None, existing: Path = _NOWHERE
) -> SigningKey:
    return load_or_create_signing_key(
        configured=configured, existing=existing, data_dir=data_dir, secret=secret
    )


def test_a_newcomers_key_is_generated_sealed_in_the_data_directory(
    data_dir: Path, secret: SealingSecret
) -> None:
    """RSA-2048, encrypted at rest, reported once, and the same at the next start."""
    made, again = _load(data_dir, secret), _load(data_dir, secret)

    assert data_dir / "jwt_key.pem" == made.file
    assert 2048 == made.key.key_size
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in made.file.read_bytes()
    assert key_name(made.public_key) == key_name(again.public_key)
    assert 1 == len(made.made)
    assert () == again.made


def test_an_existing_systems_key_is_used_as_it_is(
    data_dir: Path, secret: SealingSecret, rsa_key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    """The key of an existing installation goes before a new one and is not rewritten."""
    pem = _write(tmp_path / "jwt_key.pem", rsa_key)

    found = _load(data_dir, secret, existing=tmp_path / "jwt_key.pem")

    assert key_name(rsa_key.public_key()) == key_name(found.public_key)
    assert pem == (tmp_path / "jwt_key.pem").read_bytes()
    assert not (data_dir / "jwt_key.pem").exists()


def test_the_configured_key_goes_first(
    data_dir: Path,
    secret: SealingSecret,
    rsa_key: rsa.RSAPrivateKey,
    other_rsa_key: rsa.RSAPrivateKey,
    tmp_path: Path,
) -> None:
    """INGEST_JWT_KEY_FILE beats the file of an existing installation, also as a symlink."""
    _write(tmp_path / "existing.pem", other_rsa_key)
    _write(tmp_path / "real.pem", rsa_key)
    (tmp_path / "named.pem").symlink_to(tmp_path / "real.pem")

    found = _load(data_dir, secret, configured=tmp_path / "named.pem", existing=tmp_path / "existing.pem")

    assert key_name(rsa_key.public_key()) == key_name(found.public_key)


def test_a_configured_key_that_is_missing_is_generated_there(
    data_dir: Path, secret: SealingSecret, tmp_path: Path
) -> None:
    """As the configuration document says: auto-generated if missing."""
    made = _load(data_dir, secret, configured=tmp_path / "named.pem")

    assert tmp_path / "named.pem" == made.file
    assert made.file.exists()


@pytest.mark.parametrize("kind", ["p-256", "rsa-1024"])
def test_a_key_that_cannot_sign_rs256_safely_is_refused(
    data_dir: Path, secret: SealingSecret, kind: str
) -> None:
    """Another kind of key, or a short one, is an error that names the file."""
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "p-256"
        else rsa.generate_private_key(public_exponent=65537, key_size=1024)
    )
    _write(data_dir / "jwt_key.pem", key)

    with pytest.raises(AuthorityError, match="RSA key of at least 2048 bits"):
        _load(data_dir, secret)


def test_kid_is_the_thumbprint_of_rfc_7638() -> None:
    """The example of the RFC's section 3.1 gives the thumbprint printed there."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA"
        "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
        "kEgU8awapJzKnqDKgw"
    )
    key = jwt.PyJWK({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256"}).key

    assert "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" == key_name(key)


def test_another_library_reads_the_key_set(
    rsa_key: rsa.RSAPrivateKey, other_rsa_key: rsa.RSAPrivateKey
) -> None:
    """The published set is plain JSON with the signing key first, and has no private member."""
    document = json.loads(json.dumps(jwks([rsa_key.public_key(), other_rsa_key.public_key()])))

    keys = jwt.PyJWKSet.from_dict(document).keys
    assert [key_name(rsa_key.public_key()), key_name(other_rsa_key.public_key())] == [
        key.key_id for key in keys
    ]
    assert rsa_key.public_key() == keys[0].key
    assert {"kty", "n", "e", "use", "alg", "kid"} == set(document["keys"][0])


def test_retired_keys_are_read_from_pem(rsa_key: rsa.RSAPrivateKey) -> None:
    """Retired public keys come back from their stored form, and anything but RSA is refused."""
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    good = rsa_key.public_key().public_bytes(*form).decode()
    bad = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*form).decode()

    assert (rsa_key.public_key(),) == parse_public_keys([good])
    with pytest.raises(ValueError, match="no RSA key"):
        parse_public_keys([good, bad])

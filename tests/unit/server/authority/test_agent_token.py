"""Agent tokens: what is issued verifies, and the classic forgeries do not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.authority.agent_token import (
    AgentTokenClaims,
    Audience,
    TokenDefect,
    TokenInvalidError,
    TokenSigner,
    TokenVerifier,
)
from ct_ops_server.authority.jwks import SigningKey, key_name

_LEAF = hashlib.sha256(b"leaf").digest()


@pytest.fixture
def signer(rsa_key: rsa.RSAPrivateKey) -> TokenSigner:
    return TokenSigner(SigningKey(Path("jwt_key.pem"), rsa_key))


@pytest.fixture
def verifier(rsa_key: rsa.RSAPrivateKey) -> TokenVerifier:
    return TokenVerifier([rsa_key.public_key()])


def _claims(now: datetime, **changes: object) -> dict[str, Any]:
    issued_at = int(now.timestamp())
    claims = {"sub": "agent-1", "iss": "ct-ops-ingest", "iat": issued_at, "exp": issued_at + 86400, **changes}
    return {name: value for name, value in claims.items() if value is not None}


def _defect(verifier: TokenVerifier, token: str, now: datetime) -> TokenDefect:
    with pytest.raises(TokenInvalidError) as caught:
        verifier.verify(token, now=now)
    assert token not in str(caught.value) or not token
    return caught.value.reason


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_an_issued_token_verifies(signer: TokenSigner, verifier: TokenVerifier, now: datetime) -> None:
    """All that was put in comes out, bound to its leaf, good for 24 hours."""
    token = signer.issue("agent-1", now=now, leaf_sha256=_LEAF)

    expected = AgentTokenClaims(
        agent_id="agent-1",
        audience=Audience.AGENT,
        expires_at=now + timedelta(hours=24),
        expired=False,
        leaf_sha256=_LEAF,
    )
    assert expected == verifier.verify(token, now=now)


def test_a_token_has_the_claims_existing_peers_know(
    signer: TokenSigner, rsa_key: rsa.RSAPrivateKey, now: datetime
) -> None:
    """Issuer, subject and times are those of the wire; ours are added; the header names the key."""
    token = signer.issue("agent-1", now=now, leaf_sha256=None)
    claims = jwt.decode(token, options={"verify_signature": False})
    header = jwt.get_unverified_header(token)

    assert {"alg": "RS256", "typ": "JWT", "kid": key_name(rsa_key.public_key())} == header
    assert {"sub", "iss", "iat", "exp", "aud", "jti"} == set(claims)
    assert "ct-ops-ingest" == claims["iss"]
    assert 86400 == claims["exp"] - claims["iat"]


def test_every_token_has_its_own_id(signer: TokenSigner, now: datetime) -> None:
    """Two tokens of one agent in one second differ."""
    tokens = {signer.issue("agent-1", now=now, leaf_sha256=None) for _ in range(2)}

    assert 2 == len(tokens)


def test_expiry_is_a_flag(signer: TokenSigner, verifier: TokenVerifier, now: datetime) -> None:
    """Rule 11: an expired token with a good signature is readable; the caller decides by the leaf."""
    token = signer.issue("agent-1", now=now, leaf_sha256=None)

    assert not verifier.verify(token, now=now + timedelta(hours=23, minutes=59)).expired
    assert verifier.verify(token, now=now + timedelta(hours=24)).expired


def test_a_bootstrap_token_says_so(signer: TokenSigner, verifier: TokenVerifier, now: datetime) -> None:
    """A token for the ten minutes after an unproven Register cannot pass for an agent's."""
    token = signer.issue(
        "agent-1", now=now, leaf_sha256=_LEAF, audience=Audience.BOOTSTRAP, lifetime=timedelta(minutes=10)
    )

    found = verifier.verify(token, now=now)

    assert found.audience is Audience.BOOTSTRAP
    assert now + timedelta(minutes=10) == found.expires_at


@pytest.mark.parametrize("extra", [{}, {"org": "org-1"}])
def test_a_token_of_an_existing_server_with_our_key_is_accepted(
    rsa_key: rsa.RSAPrivateKey, verifier: TokenVerifier, now: datetime, extra: dict[str, str]
) -> None:
    """No aud, no cnf, no kid, perhaps an org: that is what existing servers issue."""
    token = jwt.encode(_claims(now, **extra), rsa_key, algorithm="RS256")

    found = verifier.verify(token, now=now)

    assert "agent-1" == found.agent_id
    assert found.audience is None
    assert found.leaf_sha256 is None


def test_a_token_of_a_retired_key_is_accepted(
    signer: TokenSigner, rsa_key: rsa.RSAPrivateKey, other_rsa_key: rsa.RSAPrivateKey, now: datetime
) -> None:
    """After a rotation of the signing key, tokens of the old one still verify, with kid and without."""
    rotated = TokenVerifier([other_rsa_key.public_key(), rsa_key.public_key()])
    old = jwt.encode(_claims(now), rsa_key, algorithm="RS256")

    assert "agent-1" == rotated.verify(signer.issue("agent-1", now=now, leaf_sha256=None), now=now).agent_id
    assert "agent-1" == rotated.verify(old, now=now).agent_id


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_attack_alg_none_is_refused(verifier: TokenVerifier, now: datetime, algorithm: str) -> None:
    """A token that says it needs no signature has none."""
    token = f"{_segment({'alg': algorithm, 'typ': 'JWT'})}.{_segment(_claims(now))}."

    assert _defect(verifier, token, now) in {TokenDefect.SIGNATURE, TokenDefect.MALFORMED}


@pytest.mark.parametrize("form", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_attack_hs256_with_the_public_key_as_password_is_refused(
    rsa_key: rsa.RSAPrivateKey, verifier: TokenVerifier, now: datetime, form: serialization.Encoding
) -> None:
    """The public key is known to all: an HMAC made with it proves nothing."""
    public = rsa_key.public_key().public_bytes(form, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{_segment({'alg': 'HS256', 'typ': 'JWT'})}.{_segment(_claims(now))}"
    mac = hmac.digest(public, signed.encode(), "sha256")
    token = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    assert TokenDefect.SIGNATURE == _defect(verifier, token, now)


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_attack_another_algorithm_of_the_same_key_is_refused(
    rsa_key: rsa.RSAPrivateKey, verifier: TokenVerifier, now: datetime, algorithm: str
) -> None:
    """The algorithm is ours to choose, not the token's."""
    token = jwt.encode(_claims(now), rsa_key, algorithm=algorithm)

    assert TokenDefect.SIGNATURE == _defect(verifier, token, now)


def test_attack_a_token_of_another_key_is_refused(
    rsa_key: rsa.RSAPrivateKey, other_rsa_key: rsa.RSAPrivateKey, verifier: TokenVerifier, now: datetime
) -> None:
    """A stranger's signature is refused, also when the token claims our key's name."""
    for headers in ({"kid": key_name(rsa_key.public_key())}, None):
        token = jwt.encode(_claims(now), other_rsa_key, algorithm="RS256", headers=headers)

        assert TokenDefect.SIGNATURE == _defect(verifier, token, now)


def test_a_token_that_names_an_unknown_key_is_refused(
    rsa_key: rsa.RSAPrivateKey, verifier: TokenVerifier, now: datetime
) -> None:
    """A kid that we do not have is not searched for among the keys we have."""
    token = jwt.encode(_claims(now), rsa_key, algorithm="RS256", headers={"kid": "unknown"})

    assert TokenDefect.SIGNATURE == _defect(verifier, token, now)


@pytest.mark.parametrize("issuer", ["licence.carrtech.dev", "", None, ["ct-ops-ingest"]])
def test_attack_a_token_of_another_issuer_is_refused(
    rsa_key: rsa.RSAPrivateKey, verifier: TokenVerifier, now: datetime, issuer: object
) -> None:
    """Something else that the same key once signed is no agent token."""
    token = f"{_segment({'alg': 'RS256'})}.{_segment(_claims(now, iss=issuer))}"

    assert TokenDefect.ISSUER == _defect(verifier, _sign(token, rsa_key), now)


@pytest.mark.parametrize("audience", ["ct-ops-api", ["ct-ops-agent"], 7, ""])
def test_a_token_for_another_audience_is_refused(
    rsa_key: rsa.RSAPrivateKey, verifier: TokenVerifier, now: datetime, audience: object
) -> None:
    """A token for an audience we do not know is for somebody else."""
    token = f"{_segment({'alg': 'RS256'})}.{_segment(_claims(now, aud=audience))}"

    assert TokenDefect.AUDIENCE == _defect(verifier, _sign(token, rsa_key), now)


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": -1},
        {"exp": 1e300},
        {"exp": float("nan")},
        {"cnf": None, "sub": {}},
        {"cnf": {}},
        {"cnf": "leaf"},
        {"cnf": {"x5t#S256": 7}},
        {"cnf": {"x5t#S256": "AAAA"}},
        {"cnf": {"x5t#S256": "ä"}},
    ],
)
def test_a_signed_token_with_absurd_claims_is_malformed(
    rsa_key: rsa.RSAPrivateKey, verifier: TokenVerifier, now: datetime, changes: dict[str, object]
) -> None:
    """A binding that cannot be read is refused rather than ignored; so is a subject or an end that is none."""
    token = f"{_segment({'alg': 'RS256'})}.{_segment(_claims(now, **changes))}"

    assert TokenDefect.MALFORMED == _defect(verifier, _sign(token, rsa_key), now)


def test_a_truncated_token_is_refused(signer: TokenSigner, verifier: TokenVerifier, now: datetime) -> None:
    """Wherever a token was cut, it is refused."""
    token = signer.issue("agent-1", now=now, leaf_sha256=_LEAF)

    for length in range(0, len(token), 7):
        assert _defect(verifier, token[:length], now) in {TokenDefect.MALFORMED, TokenDefect.SIGNATURE}


@pytest.mark.parametrize("padding", ["x" * 4097, "€" * 2000])
def test_a_token_over_4_kib_is_refused_before_parsing(
    verifier: TokenVerifier, now: datetime, padding: str
) -> None:
    """The limit counts bytes and comes first."""
    assert TokenDefect.TOO_LARGE == _defect(verifier, padding, now)


@given(
    token=st.text(max_size=200)
    | st.lists(st.binary(max_size=60), min_size=3, max_size=3).map(
        lambda parts: ".".join(base64.urlsafe_b64encode(part).decode() for part in parts)
    )
)
def test_attack_arbitrary_text_is_never_a_token(token: str) -> None:
    """Fuzzing gives a typed refusal and never another error."""
    with pytest.raises(TokenInvalidError):
        TokenVerifier([]).verify(token, now=datetime.fromisoformat("2026-03-01T12:00:00+00:00"))


def _sign(signed: str, key: rsa.RSAPrivateKey) -> str:
    """Sign what a JWT library would refuse to write."""
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(signed.encode(), key)
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

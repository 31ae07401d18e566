"""An installation's authority in a temporary data directory, and agents' keys to try on it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ct_ops_server.authority import files
from ct_ops_server.authority.ca import Authority, load_or_create_authority
from ct_ops_server.authority.public_key import PublicKey, canonical_public_key
from ct_ops_server.authority.sealing import SealingSecret, load_or_create_secret
from unit.server.authority.agent_keys import AgentKey, MakeCsr, make_csr_der

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    files.open_private_directory(path)
    return path


@pytest.fixture
def secret(data_dir: Path) -> SealingSecret:
    return load_or_create_secret(data_dir / "secret")


@pytest.fixture
def authority(data_dir: Path, secret: SealingSecret) -> Authority:
    return load_or_create_authority(data_dir, secret, now=NOW)


@pytest.fixture(params=["ed25519", "p-256"])
def agent_key(request: pytest.FixtureRequest) -> AgentKey:
    if request.param == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def public_key(agent_key: AgentKey) -> PublicKey:
    return canonical_public_key(agent_key.public_key())


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def other_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def make_csr() -> MakeCsr:
    return make_csr_der

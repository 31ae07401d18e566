"""The server's certificate: made for a newcomer, renewed with the same key, or the operator's own."""

from __future__ import annotations

import hashlib
import ssl
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ct_ops_server.authority.ca import Authority
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.public_key import PublicKey
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.server_certificate import ServerTls, load_configured_tls, load_or_create_tls
from unit.server.authority.agent_keys import AgentKey

_NAMES = ("ops.example.com", "localhost", "127.0.0.1", "::1")


@pytest.fixture
def tls(data_dir: Path, secret: SealingSecret, real_now: datetime) -> ServerTls:
    return load_or_create_tls(data_dir, secret, names=_NAMES, now=real_now)


@pytest.fixture
def real_now() -> datetime:
    """The TLS library has no clock argument, so these certificates are made for the real one."""
    return datetime.now().astimezone().replace(microsecond=0)


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Shake hands in memory; return the server's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(to_server, to_client, server_side=True)
    dialling = client.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (dialling, accepting, dialling, accepting):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return accepting


def _contexts(tls: ServerTls) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls.cert_file, tls.key_file)
    client = ssl.create_default_context(cadata=tls.ca_pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    return server, client


def _leaf(tls: ServerTls) -> x509.Certificate:
    return x509.load_pem_x509_certificate(tls.chain_pem.encode())


@pytest.mark.parametrize("name", _NAMES)
def test_a_strict_client_that_holds_the_pinned_ca_accepts_the_server(tls: ServerTls, name: str) -> None:
    """By every wanted name and address, with nothing but the CA whose digest is the pin."""
    assert "TLSv1.3" == _handshake(*_contexts(tls), name).version()


def test_a_client_that_asks_for_another_name_refuses(tls: ServerTls) -> None:
    """The pin replaces no host name check."""
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        _handshake(*_contexts(tls), "elsewhere.example.com")


def test_an_agents_leaf_passes_the_strictest_handshake(
    *,
    tls: ServerTls,
    authority: Authority,
    agent_key: AgentKey,
    public_key: PublicKey,
    tmp_path: Path,
    real_now: datetime,
) -> None:
    """What our CA issues satisfies OpenSSL's strict checks as a client certificate, for both kinds of key."""
    issued = authority.issue_leaf(public_key, "agent-1", "inst-1", now=real_now)
    pem = agent_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "agent.pem").write_bytes(pem + issued.pem.encode())
    server, client = _contexts(tls)
    server.load_verify_locations(cadata=authority.pem)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(tmp_path / "agent.pem")

    assert issued.der == _handshake(server, client, "localhost").getpeercert(binary_form=True)


def test_the_certificate_is_for_servers_only_and_13_months(tls: ServerTls) -> None:
    """P-256, serverAuth, 397 days, and the wanted names in order."""
    leaf = _leaf(tls)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key = leaf.public_key()

    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert "secp256r1" == key.curve.name
    assert list(_NAMES) == [str(name.value) for name in names]
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [ExtendedKeyUsageOID.SERVER_AUTH] == list(usages)
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert timedelta(days=397, minutes=5) == life
    assert "ops.example.com" == leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def test_the_server_ca_is_a_stranger_to_the_agent_ca(tls: ServerTls, authority: Authority) -> None:
    """Another key and another name: who signs servers cannot sign agents."""
    server_ca = x509.load_pem_x509_certificate(tls.ca_pem.encode())
    name = server_ca.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value

    assert server_ca.public_key() != authority.certificate.public_key()
    assert str(name).startswith("CT-Ops Server CA ")
    assert hashlib.sha256(tls.ca_der).digest() == tls.pin
    assert not tls.pin_is_leaf


def test_the_files_are_private_and_what_was_made_is_told(tls: ServerTls, data_dir: Path) -> None:
    """Four files, 0600; the CA's key is sealed, the server's own is for the TLS library to read."""
    for name in ("server-ca.crt", "server-ca.key", "server.crt", "server.key"):
        assert 0o600 == stat.S_IMODE((data_dir / name).stat().st_mode)
    assert b"ENCRYPTED" in (data_dir / "server-ca.key").read_bytes()
    assert b"ENCRYPTED" not in tls.key_file.read_bytes()
    assert 2 == len(tls.made)


@pytest.mark.parametrize(
    ("passed", "names", "why"),
    [
        (timedelta(days=1), _NAMES, None),
        (timedelta(days=1), ("localhost",), None),
        (timedelta(days=264), _NAMES, None),
        (timedelta(days=266), _NAMES, "less than a third"),
        (timedelta(days=500), _NAMES, "less than a third"),
        (timedelta(days=1), (*_NAMES, "new.example.com"), "lacked new.example.com"),
        (timedelta(minutes=-10), _NAMES, "this host's clock has gone back"),
    ],
)
def test_the_certificate_is_issued_again_when_needed_with_the_same_key(
    *,
    data_dir: Path,
    secret: SealingSecret,
    now: datetime,
    passed: timedelta,
    names: tuple[str, ...],
    why: str | None,
) -> None:
    """Late in its life, for a new name or after a clock set back; the CA, and so every pin, stays."""
    # The CA is older than the certificate, so that a clock set back a little is still within its dates.
    load_or_create_tls(data_dir, secret, names=("first",), now=now - timedelta(days=2))
    first = load_or_create_tls(data_dir, secret, names=_NAMES, now=now)
    second = load_or_create_tls(data_dir, secret, names=names, now=now + passed)

    if why is None:
        assert () == second.made
        assert first.chain_pem == second.chain_pem
    else:
        assert 1 == len(second.made)
        assert why in second.made[0]
        assert first.chain_pem != second.chain_pem
    assert _leaf(first).public_key() == _leaf(second).public_key()
    assert first.public_key_der == second.public_key_der
    assert first.pin == second.pin


def test_a_certificate_of_another_ca_is_issued_again(
    tls: ServerTls, data_dir: Path, secret: SealingSecret, real_now: datetime, tmp_path: Path
) -> None:
    """After a CA was restored, the certificate follows it."""
    (tmp_path / "other").mkdir()
    other = load_or_create_tls(tmp_path / "other", secret, names=_NAMES, now=real_now)
    for name in ("server-ca.crt", "server-ca.key"):
        (tmp_path / "other" / name).replace(data_dir / name)

    found = load_or_create_tls(data_dir, secret, names=_NAMES, now=real_now)

    assert other.pin == found.pin
    assert "another key or CA" in found.made[0]


def test_an_ended_server_ca_stops_the_start(data_dir: Path, secret: SealingSecret, now: datetime) -> None:
    """A certificate that no agent would accept is not served as if all were well."""
    load_or_create_tls(data_dir, secret, names=_NAMES, now=now)

    with pytest.raises(AuthorityError, match="this host's clock says"):
        load_or_create_tls(data_dir, secret, names=_NAMES, now=now + timedelta(days=3660))


@pytest.mark.parametrize("name", ["server.crt", "server.key"])
def test_a_damaged_file_stops_the_start(
    tls: ServerTls, data_dir: Path, secret: SealingSecret, real_now: datetime, name: str
) -> None:
    """What cannot be read is named, not replaced."""
    (data_dir / name).write_text("damaged")

    with pytest.raises(AuthorityError, match=name):
        load_or_create_tls(data_dir, secret, names=_NAMES, now=real_now)


def test_a_configured_chain_pins_the_ca_at_its_end(tls: ServerTls, tmp_path: Path) -> None:
    """Leaf and CA in one file: the CA is what agents pin."""
    chain = tmp_path / "chain.pem"
    chain.write_text(tls.chain_pem + tls.ca_pem)

    found = load_configured_tls(chain, tls.key_file, None)

    assert tls.pin == found.pin
    assert not found.pin_is_leaf
    assert () == found.made


def test_a_configured_leaf_alone_is_its_own_pin(tls: ServerTls) -> None:
    """With nothing else to pin, the leaf is pinned and the result says so."""
    found = load_configured_tls(tls.cert_file, tls.key_file, None)

    assert found.pin_is_leaf
    assert hashlib.sha256(_leaf(tls).public_bytes(serialization.Encoding.DER)).digest() == found.pin


def test_a_self_signed_certificate_is_its_own_pin(authority: Authority, data_dir: Path) -> None:
    """A certificate that is its own CA ends with itself."""
    found = load_configured_tls(data_dir / "agent-ca.crt", data_dir / "agent-ca.key", None)

    assert found.pin_is_leaf
    assert authority.sha256 == found.pin


def test_the_configured_ca_is_the_one_that_signed(
    tls: ServerTls, authority: Authority, tmp_path: Path
) -> None:
    """Of several certificates in INGEST_TLS_CA the signer is pinned, wherever it stands."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(authority.pem + tls.ca_pem)

    found = load_configured_tls(tls.cert_file, tls.key_file, bundle)

    assert tls.pin == found.pin
    assert tls.ca_pem == found.ca_pem


def test_a_configured_ca_that_signed_something_else_is_refused(
    tls: ServerTls, authority: Authority, data_dir: Path
) -> None:
    """A pin that no agent could ever verify is an error at the start, with the variable's name."""
    with pytest.raises(AuthorityError, match="INGEST_TLS_CERT"):
        load_configured_tls(tls.cert_file, tls.key_file, data_dir / "agent-ca.crt")


def test_a_configured_certificate_that_is_missing_is_an_error(tls: ServerTls, tmp_path: Path) -> None:
    """Nothing is made in place of what the operator named."""
    with pytest.raises(AuthorityError, match="does not exist"):
        load_configured_tls(tmp_path / "missing.pem", tls.key_file, None)

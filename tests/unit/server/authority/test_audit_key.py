"""The key that signs the audit log, and what is left of it when it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from ct_ops_server.audit.heads import key_name, parse_public_key, parse_public_keys
from ct_ops_server.authority.audit_key import KEY_FILE, PUBLIC_FILE, load_or_create_audit_key
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.sealing import SealingSecret, seal


@pytest.fixture
def secret(tmp_path: Path) -> SealingSecret:
    return SealingSecret(tmp_path / "secret", b"a secret of an installation")


def names_in(folder: Path) -> list[str]:
    return [key_name(key) for key in parse_public_keys((folder / PUBLIC_FILE).read_bytes())]


def test_a_newcomer_makes_it_and_the_next_start_finds_it(tmp_path: Path, secret: SealingSecret) -> None:
    """Its public half lies beside it, and is put back."""
    made = load_or_create_audit_key(tmp_path, secret)
    (tmp_path / PUBLIC_FILE).unlink()
    found = load_or_create_audit_key(tmp_path, secret)

    assert made.public_pem == found.public_pem == (tmp_path / PUBLIC_FILE).read_bytes()
    assert (1, 0, "", "") == (len(made.made), len(found.made), made.lost, found.lost)


def test_a_lost_key_keeps_its_public_half_and_is_said(tmp_path: Path, secret: SealingSecret) -> None:
    """Heads that it signed are verified for years; what the loss means is in the log of the server."""
    gone = []
    for _ in range(3):
        gone.append(load_or_create_audit_key(tmp_path, secret))
        (tmp_path / KEY_FILE).unlink()
    last = load_or_create_audit_key(tmp_path, secret)
    again = load_or_create_audit_key(tmp_path, secret)

    own = key_name(last.key.public_key())
    before = [key_name(each.key.public_key()) for each in reversed(gone)]
    assert [own, *before] == names_in(tmp_path)
    assert parse_public_key(last.public_pem) == last.key.public_key()
    assert last.before == before[0]
    assert "make a backup now" in last.lost
    assert own in last.lost
    assert "" == again.lost


def test_rubbish_in_place_of_the_public_half_is_replaced(tmp_path: Path, secret: SealingSecret) -> None:
    """It is made from the key at every start."""
    made = load_or_create_audit_key(tmp_path, secret)
    (tmp_path / PUBLIC_FILE).write_bytes(b"-----BEGIN RUBBISH")

    assert made.public_pem == load_or_create_audit_key(tmp_path, secret).public_pem
    assert [key_name(made.key.public_key())] == names_in(tmp_path)


def test_a_key_of_another_sort_is_refused(tmp_path: Path, secret: SealingSecret) -> None:
    (tmp_path / KEY_FILE).write_bytes(seal(generate_private_key(SECP256R1()), secret))

    with pytest.raises(AuthorityError, match="no Ed25519 key"):
        load_or_create_audit_key(tmp_path, secret)

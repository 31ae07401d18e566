"""What a server gave is kept, and an existing agent's files are taken over."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.credentials import CredentialStore, Identity, StoredRoute
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.secret import Secret
from fakes.conforming_server import issue_leaf, make_authority

ENDS = datetime.now(UTC) + timedelta(days=90)


@pytest.fixture(scope="module")
def keys() -> KeyPair:
    return make_key_pair()


@pytest.fixture(scope="module")
def identity(keys: KeyPair) -> Identity:
    authority = make_authority("Agents")
    leaf = issue_leaf(authority, "agent-1", Ed25519PublicKey.from_public_bytes(keys.public), ENDS)
    return Identity("agent-1", Secret("ey.J.x"), keys, leaf, authority.pem, int(ENDS.timestamp()))


@pytest.fixture
def store(tmp_path: Path) -> CredentialStore:
    return CredentialStore(tmp_path)


def test_what_is_kept_is_loaded(store: CredentialStore, identity: Identity, tmp_path: Path) -> None:
    """Identity and route come back as they were, and every file is private."""
    route = StoredRoute(("a:1", "b:2"), "name", "bundle")
    store.keep_identity(identity)
    store.keep_route(route)

    stored = store.load(identity.keys)

    assert (identity, "agent-1", route) == (stored.identity, stored.agent_id, stored.route)
    assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}


def test_an_empty_directory_holds_nothing(store: CredentialStore, keys: KeyPair) -> None:
    """A new host: no identity, no id, no route."""
    stored = store.load(keys)

    assert (None, "", StoredRoute()) == (stored.identity, stored.agent_id, stored.route)


def test_a_pending_agent_has_an_id_and_no_identity(store: CredentialStore, keys: KeyPair) -> None:
    """What the server called us while an operator decides is remembered."""
    store.keep_pending("agent-7")

    stored = store.load(keys)

    assert (None, "agent-7") == (stored.identity, stored.agent_id)


def test_an_existing_agents_state_is_enough(
    store: CredentialStore, identity: Identity, tmp_path: Path
) -> None:
    """Two fields in the state, two certificates: an identity."""
    (tmp_path / "agent_state.json").write_text(json.dumps({"agent_id": "agent-1", "jwt_token": "ey.J.x"}))
    (tmp_path / "agent_cert.pem").write_text(identity.leaf_pem)

    found = store.load(identity.keys).identity

    assert found
    assert ("agent-1", 0) == (found.agent_id, found.leaf_not_after_unix)


def test_an_existing_agent_can_read_our_state(
    store: CredentialStore, identity: Identity, tmp_path: Path
) -> None:
    """The way back stays open: its two fields are there under their names."""
    store.keep_identity(identity)

    state = json.loads((tmp_path / "agent_state.json").read_text())

    assert ("agent-1", "ey.J.x") == (state["agent_id"], state["jwt_token"])


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', '{"agent_id": 7, "jwt_token": null}'])
def test_a_damaged_state_means_registering_again(
    store: CredentialStore, keys: KeyPair, tmp_path: Path, text: str
) -> None:
    """Half a file after a power cut of an existing agent does not end ours."""
    (tmp_path / "agent_state.json").write_text(text)

    assert store.load(keys).identity is None


def test_a_leaf_about_another_key_is_no_identity(
    store: CredentialStore, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that was mixed up is noticed before it is presented to a server."""
    store.keep_identity(identity)

    assert store.load(make_key_pair()).identity is None
    assert "is about another key" in caplog.text


def test_the_dates_that_an_existing_agent_did_not_write_down_are_read_once(
    store: CredentialStore, identity: Identity
) -> None:
    """From the leaf itself; without them it would never be renewed in time."""
    store.keep_identity(replace(identity, leaf_not_after_unix=0))
    completed = store.complete(replace(identity, leaf_not_after_unix=0))

    assert int(ENDS.timestamp()) == completed.leaf_not_after_unix
    assert 0 < completed.leaf_not_before_unix < completed.leaf_not_after_unix
    assert completed == store.load(identity.keys).identity


def test_a_leaf_that_cannot_be_read_has_no_dates(
    store: CredentialStore, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent goes on: the server decides about the leaf."""
    unreadable = replace(identity, leaf_pem="no leaf", leaf_not_after_unix=0)

    assert unreadable == store.complete(unreadable)
    assert "when it ends is not known" in caplog.text

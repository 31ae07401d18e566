"""What a server gave this agent: id, agent token, leaf, trust bundle.

Files, as existing agents have them: ``agent_state.json`` (id and agent token), ``agent_cert.pem``
(leaf), ``agent_ca.pem`` (who signed it). Ours is ``server_ca.pem``, the trust bundle learnt at first
contact, and five more fields in the state, which an existing agent ignores. The state is written
last: it names what was complete before.

Nothing is deleted. A leaf that is about another key is not used, and the agent registers again.
"""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from ct_ops_agent.identity.files import load_file, write_file
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.secret import Secret

_log = logging.getLogger(__name__)

STATE_NAME = "agent_state.json"
LEAF_NAME = "agent_cert.pem"
AGENT_CA_NAME = "agent_ca.pem"
TRUST_BUNDLE_NAME = "server_ca.pem"


@dataclass(frozen=True)
class Identity:
    """An admitted agent: everything it needs to speak."""

    agent_id: str
    agent_token: Secret
    keys: KeyPair
    leaf_pem: str
    agent_ca_pem: str
    leaf_not_after_unix: int
    """0: an existing agent did not write it down."""

    leaf_not_before_unix: int = 0
    """0: an existing agent did not write it down."""


@dataclass(frozen=True)
class StoredRoute:
    """How the server was reached when this agent was enrolled."""

    addresses: tuple[str, ...] = ()
    server_name: str = ""
    trust_bundle_pem: str = ""
    began_with: str = ""
    """SHA-256 of the installed CA file that the bundle descends from; empty: none."""


@dataclass(frozen=True)
class Stored:
    """What the data directory knows of earlier lives."""

    identity: Identity | None
    agent_id: str
    """Also without an identity: what the server called a pending agent."""

    route: StoredRoute


class CredentialStore:
    """The credential files of one data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, keys: KeyPair | None) -> Stored:
        """Read everything there is.

        Raises:
            DataDirectoryError: a file is unsafe or unreadable.
        """
        state = self._load_state()
        agent_id = _text(state, "agent_id")
        route = StoredRoute(
            addresses=tuple(_text(state, "ingest_addresses").split()),
            server_name=_text(state, "ingest_server_name"),
            trust_bundle_pem=self.trust_bundle(),
            began_with=_text(state, "server_ca_began_with"),
        )
        identity = self._load_identity(keys, agent_id, state) if keys and agent_id else None
        return Stored(identity, agent_id, route)

    def complete(self, identity: Identity) -> Identity:
        """Return an identity that knows the dates of its leaf: existing agents did not write them down.

        They are read once and kept, since looking into a certificate loads `cryptography`.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        if identity.leaf_not_after_unix:
            return identity
        from ct_ops_agent.identity.certificates import leaf_life  # noqa: PLC0415 - heavy, and needed once

        try:
            life = leaf_life(identity.leaf_pem, identity.keys)
        except ValueError as error:
            _log.warning("%s cannot be read (%s); when it ends is not known", LEAF_NAME, error)
            return identity
        begin, end = life.not_before_unix, life.not_after_unix
        self._merge_state(leaf_not_after_unix=end, leaf_not_before_unix=begin)
        return replace(identity, leaf_not_after_unix=end, leaf_not_before_unix=begin)

    def keep_identity(self, identity: Identity) -> None:
        """Write down an admission.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        write_file(self._directory / LEAF_NAME, identity.leaf_pem)
        write_file(self._directory / AGENT_CA_NAME, identity.agent_ca_pem)
        self._merge_state(**_named(identity))

    def keep_admission(self, identity: Identity, route: StoredRoute) -> None:
        """Write down an admission together with where its server is, the state last.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        write_file(self._directory / LEAF_NAME, identity.leaf_pem)
        write_file(self._directory / AGENT_CA_NAME, identity.agent_ca_pem)
        write_file(self._directory / TRUST_BUNDLE_NAME, route.trust_bundle_pem)
        self._merge_state(**_named(identity), **_placed(route))

    def keep_pending(self, agent_id: str) -> None:
        """Write down what the server calls us while an operator decides.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        self._merge_state(agent_id=agent_id)

    def keep_route(self, route: StoredRoute) -> None:
        """Write down where the server is and what is believed there from now on.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        write_file(self._directory / TRUST_BUNDLE_NAME, route.trust_bundle_pem)
        self._merge_state(**_placed(route))

    def keep_trust_bundle(self, bundle_pem: str) -> None:
        """Write down what is believed of the server from now on.

        Raises:
            DataDirectoryError: the directory cannot be written.
        """
        write_file(self._directory / TRUST_BUNDLE_NAME, bundle_pem)

    def trust_bundle(self) -> str:
        """Return what was written down of the server's CAs, empty when nothing was.

        Raises:
            DataDirectoryError: the file is unsafe or unreadable.
        """
        return load_file(self._directory / TRUST_BUNDLE_NAME) or ""

    def _merge_state(self, **changes: object) -> None:
        merged = self._load_state() | changes
        write_file(self._directory / STATE_NAME, json.dumps(merged, indent=2) + "\n")

    def _load_identity(self, keys: KeyPair, agent_id: str, state: dict[str, object]) -> Identity | None:
        leaf_pem = load_file(self._directory / LEAF_NAME)
        if not leaf_pem:
            return None
        if not keys.certified_by(leaf_pem):
            _log.warning("%s is about another key than agent_key.pem; this agent registers again", LEAF_NAME)
            return None
        return Identity(
            agent_id=agent_id,
            agent_token=Secret(_text(state, "jwt_token")),
            keys=keys,
            leaf_pem=leaf_pem,
            agent_ca_pem=load_file(self._directory / AGENT_CA_NAME) or "",
            leaf_not_after_unix=_number(state, "leaf_not_after_unix"),
            leaf_not_before_unix=_number(state, "leaf_not_before_unix"),
        )

    def _load_state(self) -> dict[str, object]:
        text = load_file(self._directory / STATE_NAME)
        state = None if text is None else _parse_object(text)
        if text is not None and state is None:
            _log.warning("%s is damaged; this agent registers again with its key", STATE_NAME)
        return state or {}


def _named(identity: Identity) -> dict[str, object]:
    return {
        "agent_id": identity.agent_id,
        "jwt_token": identity.agent_token.reveal(),
        "leaf_not_after_unix": identity.leaf_not_after_unix,
        "leaf_not_before_unix": identity.leaf_not_before_unix,
    }


def _placed(route: StoredRoute) -> dict[str, object]:
    return {
        "ingest_addresses": " ".join(route.addresses),
        "ingest_server_name": route.server_name,
        "server_ca_began_with": route.began_with,
    }


def _parse_object(text: str) -> dict[str, object] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _number(state: dict[str, object], name: str) -> int:
    value = state.get(name)
    return value if isinstance(value, int) else 0


def _text(state: dict[str, object], name: str) -> str:
    value = state.get(name)
    return value if isinstance(value, str) else ""

"""What the authority asks of its store: its rows, what a step changes, and who holds what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ct_ops_server.audit.decisions import Decision
from ct_ops_server.authority.life_cycle import Held, Holders, Kind, Straggler, TrustState

TOPIC = "trust"
"""Of hints that a step was taken."""


class TrustChangedError(Exception):
    """Another step was taken since the one that is asked for was planned."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An agent CA, or a key of agent tokens, as it is stored."""

    name: str
    """An agent CA's SHA-256 in hex; a token key's ``kid``."""
    public_pem: str
    """An agent CA's chain, the one that signs first; a token key's public half."""
    state: TrustState
    since: datetime
    sealed_key: str | None = field(default=None, repr=False)
    """Its private half under the installation's secret; None: it lies in a file, or is erased."""

    @property
    def held(self) -> Held:
        """What the life cycle sees of it."""
        return Held(self.name, self.state, self.since)


@dataclass(frozen=True, slots=True)
class StoredTrust:
    """All of them, oldest first, as of one version."""

    version: int
    """Raised by every step."""
    keys: Mapping[Kind, Sequence[StoredKey]]

    def held(self, kind: Kind) -> list[Held]:
        """Return what the life cycle sees of one kind."""
        return [each.held for each in self.keys[kind]]

    def find(self, kind: Kind, name: str) -> StoredKey | None:
        """Return the one with this name."""
        return next((each for each in self.keys[kind] if each.name == name), None)

    def active(self, kind: Kind) -> StoredKey | None:
        """Return the one that signs; None in a database that is new."""
        return next((each for each in self.keys[kind] if each.state is TrustState.ACTIVE), None)


@dataclass(frozen=True, slots=True)
class NewKey:
    """One that is to be stored, with its state."""

    name: str
    public_pem: str
    state: TrustState


@dataclass(frozen=True, slots=True)
class Change:
    """What a step stores."""

    kind: Kind
    states: Mapping[str, TrustState] = field(default_factory=dict)
    """New states of those that are there. One that is retired loses its sealed key."""
    new: NewKey | None = None
    sealed_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Private keys to be kept, sealed, by name."""
    public_pems: Mapping[str, str] = field(default_factory=dict)
    """What is public of those that are there, where that changed: the certificates above an agent CA."""
    instead_of: str | None = None
    """The agent CA whose renewed certificate ``new`` is: leaves of that one count as leaves of the new one."""
    expected_version: int | None = None
    """When it was planned; None: whatever was before."""
    only_without_workers: bool = False
    """Not while a server runs on this database."""
    decisions: Sequence[Decision] = ()
    """What the audit log says of it, in the same transaction."""


@dataclass(frozen=True, slots=True)
class Share:
    """Active agents by the authority of their latest leaf."""

    name: str
    """The agent CA's SHA-256 in hex."""
    agents: int
    good: int
    """Those whose leaf has not ended."""


@dataclass(frozen=True, slots=True)
class Heard:
    """How far a worker is."""

    latest: int
    reported: int | None
    """None: it has no lease, so there is nobody to report for."""


class TrustStore(Protocol):
    """Every method may raise ``StoreError``."""

    async def heard(self, worker_id: str) -> Heard:
        """Return the version of the latest step, and the one that a worker last reported."""

    async def load(self) -> StoredTrust:
        """Return everything."""

    async def change(self, change: Change) -> int:
        """Store a step, whole or not at all; return its version.

        Raises:
            TrustChangedError: the version is not the expected one, or a server runs.
        """

    async def report(self, worker_id: str, node: str, version: int) -> None:
        """Record that a worker acts by this version."""

    async def stragglers(self, version: int) -> Sequence[Straggler]:
        """Return the living workers that act by an older version."""

    async def shares(self, now: datetime) -> Sequence[Share]:
        """Return how many active agents have their latest leaf from which agent CA; those without any are left out."""

    async def holders(self, name: str, now: datetime, *, first: int) -> Holders:
        """Return the active agents whose latest leaf is good and of this agent CA, online ones first."""

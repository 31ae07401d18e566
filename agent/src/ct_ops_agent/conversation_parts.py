"""What a conversation on a heartbeat stream works with: its parts, and the ports that they fill.

`conversation` speaks; everything it looks at, keeps or tells goes through one of these. The same parts serve every
stream of a process.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from ct_ops_agent.anchors import Prove, take_for_granted
from ct_ops_agent.batches import Batch, BatchAck, Position, Welcome
from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import Hello, RenewalAsk, Renewed
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.link import NothingToDeliver, WorkUndone
from ct_ops_agent.samples import KnowsCollectors
from ct_ops_agent.vitals import Vitals
from ct_ops_agent.work import Works

REPLY_DEADLINE_S = 30.0


class ReadsVitals(Protocol):
    """Looks at the host."""

    async def read(self) -> Vitals:
        """Return the vitals of this moment."""


class Renews(Protocol):
    """Knows what is due, and keeps what comes: `renewal.Renewal`."""

    def ask(self, identity: Identity) -> RenewalAsk | None:
        """Return what to ask beside a frame."""

    def csr_if_leaf_is_due(self, identity: Identity) -> bytes | None:
        """Return what to ask by a call."""

    def hurry(self) -> None:
        """Let the leaf be due now."""

    def request_rotation(self) -> None:
        """Have the next ask be for another key."""

    def take(self, identity: Identity, renewed: Renewed) -> Identity:
        """Keep new credentials. May raise ``UnusableRenewalError``."""


class Pins(Protocol):
    """Holds the pinned HTTPS certificate: `server_pin.ServerPin`."""

    @property
    def fingerprint(self) -> str:
        """Of the pinned one; empty: none."""

    def keep(self, pem: str) -> None:
        """Pin another one."""


class Delivers(Protocol):
    """Brings home what was kept: `delivery.courier.Courier`."""

    @property
    def position(self) -> Position | None:
        """What the first frame says of the outbox."""

    def begin(self, welcome: Welcome | None, agent_id: str) -> None:
        """The stream was answered; ``None``: by a server that takes no batches."""

    async def next_batch(self) -> Batch | None:
        """Wait for what is to be sent; ``None``: it goes in a frame, which is wanted now. Safe to cancel."""

    def answered(self, ack: BatchAck) -> None:
        """Take the answer to the batch that was sent."""

    def heartbeat_answered(self) -> None:
        """The server has the newest vitals."""

    def take_carried(self) -> bytes:
        """Return what goes in the next frame."""


@dataclass(frozen=True)
class Acknowledgement:
    """What is known when a heartbeat was answered."""

    features: tuple[str, ...]
    """Abilities of the server; an existing one has none."""

    clock_skew_s: float | None
    """This host's clock minus the server's; ``None``: the server does not tell."""


class StreamEvents(Protocol):
    """Told what happens on a stream."""

    def acknowledged(self, news: Acknowledgement) -> None:
        """The server answered a heartbeat."""

    def renewed(self, identity: Identity) -> None:
        """These are the credentials from the next connection on."""

    def trusts(self, roots_pem: str) -> None:
        """These server CAs are believed from the next connection on. May raise ``DataDirectoryError``."""


@dataclass(frozen=True)
class Speaker:
    """Who this process is, the same in every frame."""

    agent_version: str
    facts: HostFacts
    hello: Hello


@dataclass(frozen=True)
class HeartbeatParts:
    """What every stream of this process works with."""

    vitals: ReadsVitals
    speaker: Speaker
    renewal: Renews
    pin: Pins
    due: asyncio.Event
    """Set when the next heartbeat is due."""

    clock: Clock
    works: Works = field(default_factory=WorkUndone)
    delivery: Delivers = field(default_factory=NothingToDeliver)
    collectors: KnowsCollectors | None = None
    """``None``: this process gathers nothing."""

    prove: Prove = take_for_granted
    """Looks whether the server can be believed with other roots."""

    reply_deadline_s: float = REPLY_DEADLINE_S

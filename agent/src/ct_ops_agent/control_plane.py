"""The server as the flows see it: values that go there and come back, and the two conversations.

No gRPC here: enrolment, heartbeat and lifecycle depend on these protocols, `transport` fulfils
them over gRPC, and a test may fulfil them from memory. Values are frozen; texts that came from the
server are already printable and bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from ct_ops_agent.batches import Batch, BatchAck, Position, Welcome
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.samples import CollectorState
from ct_ops_agent.secret import Secret
from ct_ops_agent.vitals import Vitals
from ct_ops_agent.work import InventoryChunk, Work

DELIVERY = "delivery"
DEFINITIONS = "definitions"
ATTEMPTS = "attempts"
"""What ``features`` calls numbered batches, checks in a list of their own, and counted attempts."""


@dataclass(frozen=True)
class Tag:
    """A label that the host claims for itself."""

    key: str
    value: str


@dataclass(frozen=True)
class Challenge:
    """What a server asks a key to sign."""

    nonce: bytes
    server_certificate_sha256: bytes
    """Of the certificate that the challenger says it shows; a claim. Empty: it does not say."""


@dataclass(frozen=True)
class KeyProof:
    """A signature that proves a key now, see ``ct_ops_proto.key_proof``."""

    nonce: bytes
    signature: bytes = field(repr=False)


@dataclass(frozen=True)
class Registration:
    """What an agent says to be admitted."""

    enrolment_token: Secret
    """The secret part only; empty when the proven key has to do."""

    public_key_pem: str
    csr_der: bytes
    agent_id: str
    """The id of an earlier enrolment, else empty. A claim, never believed."""

    agent_version: str
    facts: HostFacts
    tags: tuple[Tag, ...]
    proof: KeyProof | None = None


@dataclass(frozen=True)
class RegistrationReply:
    """What the server answered."""

    agent_id: str
    status: str
    """``pending``, ``active`` or ``revoked``; a server with a defect may say anything."""

    message: str
    agent_token: Secret
    leaf_pem: str
    agent_ca_pem: str
    leaf_not_after_unix: int
    """0: not said."""
    reason: str = ""
    """Why it is pending, when that is not for want of approval; empty from an existing server."""


@dataclass(frozen=True)
class Hello:
    """Who is speaking, on the first frame of a stream. Ours; an existing server ignores it."""

    boot_id: str
    process_id: str
    interval_s: int
    features: tuple[str, ...] = ()
    position: Position | None = None
    """How far this agent's outbox is; ``None``: it has none."""
    machine_id: str = ""
    hostname: str = ""


@dataclass(frozen=True)
class RenewalAsk:
    """A wish for new credentials, sent beside a frame."""

    csr_der: bytes
    """Empty: only a new agent token."""

    proof: KeyProof | None = None
    """By the *new* key, when the CSR is for one."""


@dataclass(frozen=True)
class Renewed:
    """New credentials. Empty: not renewed."""

    agent_token: Secret
    leaf_pem: str = ""
    leaf_not_after_unix: int = 0
    agent_ca_pem: str = ""


class AnchorSource(Enum):
    """Where the believed server CAs come from."""

    LEARNT = auto()
    """First contact by pin, and announcements since."""

    OPERATOR = auto()
    """A file that is configured on this host."""

    HOST = auto()
    """The host's own roots."""

    UNVERIFIED = auto()
    """What was shown at first contact, and `tls_skip_verify` is still set."""


@dataclass(frozen=True)
class AnchorReport:
    """Which server CAs this agent believes."""

    source: AnchorSource
    believed: tuple[bytes, ...]
    """SHA-256 each; of roots that were not learnt, those that the server announced."""


@dataclass(frozen=True)
class HeartbeatFrame:
    """One periodic report."""

    speaker: str
    """First frame of a stream: the agent token. Later frames: the agent id."""

    sent_at_unix: int
    agent_version: str
    facts: HostFacts
    vitals: Vitals
    hello: Hello | None = None
    clock_skew_ms: int | None = None
    """This host's clock minus the server's, as last measured."""

    renewal: RenewalAsk | None = None
    pinned_fingerprint: str = ""
    """SHA-256 of the pinned HTTPS certificate, lower-case hex; empty: none is pinned."""

    items: bytes = field(default=b"", repr=False)
    """Results for a server that takes no batches, as the outbox kept them."""

    collectors: tuple[CollectorState, ...] | None = None
    """Of this host; ``None``: as said before on this stream."""
    anchors: AnchorReport | None = None
    """Which server CAs are believed; ``None``: as said before on this stream."""

    def __repr__(self) -> str:
        return f"HeartbeatFrame(sent_at_unix={self.sent_at_unix}, first={self.hello is not None})"


@dataclass(frozen=True)
class HeartbeatReply:
    """A frame from the server: the reply to one of ours, or something it pushed."""

    server_time_unix: float | None
    """From our own servers; ``None`` otherwise."""

    unsupported_work: tuple[str, ...] = ()
    """Kinds of work in this frame that this agent does not do."""

    work: Work = field(default_factory=Work)
    features: tuple[str, ...] = ()
    """Abilities that a welcome names; an existing server has none."""

    renewed: Renewed | None = None
    """What we asked for, or what an existing server pushed: a new leaf."""

    server_certificate_pem: str = ""
    """The HTTPS certificate to pin from now on; empty: no news."""

    welcome: Welcome | None = None
    """First reply of a stream of ours; ``None`` otherwise."""

    batch_ack: BatchAck | None = None
    """Set: this frame answers a batch, and no heartbeat."""

    renew_leaf: bool = False
    """The server wants this agent to ask for a new leaf now."""

    anchors: tuple[bytes, ...] | None = None
    """The server CAs (DER) to believe; ``None``: no news."""

    rotate_key: bool = False
    """The server wants another key, for a copy of this host holds this one."""


class HeartbeatStream(Protocol):
    """One live heartbeat stream. Every method may raise the errors of `errors`."""

    async def send(self, frame: HeartbeatFrame) -> None:
        """Hand a frame to the network."""

    async def send_batch(self, agent_id: str, batch: Batch) -> None:
        """Hand a batch to the network, in a frame of its own that is no heartbeat."""

    async def receive(self) -> HeartbeatReply:
        """Wait for the next frame of the server. Safe to cancel: nothing is lost."""

    async def finish(self) -> None:
        """End our half of the stream, give the server a moment to end its own, then drop it."""


@dataclass(frozen=True)
class Departure:
    """What is said when an agent leaves for good."""

    public_key_pem: str
    agent_id: str
    proof: KeyProof


class Session(Protocol):
    """A connection to the server, as the identity it was opened with."""

    async def challenge(self, public_key_pem: str) -> Challenge | None:
        """Ask for a nonce to sign; ``None`` from a server that knows no challenges."""

    async def server_certificate(self) -> bytes:
        """Return the certificate (DER) that the server shows on another connection, verified like this one's."""

    async def register(self, registration: Registration) -> RegistrationReply:
        """Ask to be admitted."""

    def open_heartbeat(self) -> HeartbeatStream:
        """Start a heartbeat stream."""

    async def renew_certificate(self, agent_id: str, csr_der: bytes) -> Renewed:
        """Ask for a new leaf by the call that existing servers know."""

    async def upload_inventory(self, identity: Identity, chunks: Iterable[InventoryChunk]) -> int:
        """Upload a software scan; return how many packages the server has stored."""


@dataclass(frozen=True)
class Route:
    """How the server is reached, and what is believed there."""

    addresses: tuple[str, ...]
    """``host:port``, most preferred first."""

    roots_pem: str
    """The trust bundle: the only roots that are believed. Empty: those of the TLS library."""

    server_name: str = ""
    """The name the server's certificate must carry; empty: the host of the address."""

    learnt: bool = False
    """The roots were learnt at first contact and are not written down yet."""

    source: AnchorSource = AnchorSource.HOST
    """Who decides what is believed."""

    began_with: str = ""
    """SHA-256 of the installed CA file that the roots descend from; empty: none."""


class Connect(Protocol):
    """Opens sessions. Nothing is dialled before the first call on the session."""

    def __call__(self, route: Route, identity: Identity | None) -> AbstractAsyncContextManager[Session]:
        """Open a session, presenting the identity's leaf when there is one."""

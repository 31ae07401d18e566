"""Values that the contract suites store, and the store they store them in."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ct_ops_server.authority.ports import TrustStore
from ct_ops_server.enrolment.carried_ports import CarriedStore
from ct_ops_server.enrolment.model import Application, LeafRecord, NewAgent, TokenTerms
from ct_ops_server.enrolment.ports import EnrolmentStore
from ct_ops_server.enrolment.token_ports import RefusalStore, TokenStore
from ct_ops_server.fleet.anchor_log import AnchorStore
from ct_ops_server.fleet.check_ports import CheckStore
from ct_ops_server.fleet.clones import CloneStore, SuccessionStore
from ct_ops_server.fleet.delivery import DeliveryStore
from ct_ops_server.fleet.hurry import HurryStore
from ct_ops_server.fleet.items import Owned
from ct_ops_server.fleet.model import (
    Agent,
    AgentStatus,
    Disk,
    Facts,
    HeartbeatWrite,
    Interface,
    StreamOpened,
    StreamOpening,
    Tag,
    Vitals,
)
from ct_ops_server.fleet.ports import AgentStore, EndingStore, PresenceStore, StreamStore
from ct_ops_server.fleet.samples import SampleStore
from ct_ops_server.fleet.shared_server_cas import ServerCaStore
from ct_ops_server.store.replaying import Event

VITALS = Vitals(
    cpu_percent=12.5,
    memory_percent=50.25,
    disk_percent=75.125,
    uptime_s=86_400,
    reported_at_s=1_790_000_000,
    agent_version="0.1.0",
    os="linux",
    os_version="Debian 12",
    arch="amd64",
)
FACTS = Facts(
    disks=[Disk("/", "/dev/vda1", "ext4", 2**64 - 1, 1_000, 2_000, 33.5)],
    interfaces=[Interface("eth0", ["192.0.2.7", "2001:db8::7"], "02:00:00:00:00:07", is_up=True)],
)
APPLICATION = Application(
    token="",
    key_id="key-a",
    public_key_der=b"\x30\x2a",
    hostname="web-1",
    os="linux",
    os_version="Debian 12",
    arch="amd64",
    agent_version="0.1.0",
    ip_addresses=("192.0.2.7",),
    claimed_tags=(Tag("rack", "7"),),
    observed_address="198.51.100.7",
    key_is_proven=True,
)
LATER = datetime(2040, 1, 1, tzinfo=UTC)
EARLIER = datetime(2020, 1, 1, tzinfo=UTC)
ISSUED = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class StoreUnderTest:
    """Any implementation of the ports."""

    streams: StreamStore
    presence: PresenceStore
    agents: AgentStore
    clones: CloneStore
    successions: SuccessionStore
    enrolment: EnrolmentStore
    tokens: TokenStore
    refusals: RefusalStore
    carried: CarriedStore
    endings: EndingStore
    deliveries: DeliveryStore
    checks: CheckStore
    deliver_check_results: Callable[[Sequence[Owned]], Awaitable[Sequence[str | None]]]
    """The item writer of check results, in a transaction of its own."""
    samples: SampleStore
    trust: TrustStore
    anchors: AnchorStore
    server_cas: ServerCaStore
    hurries: HurryStore
    hurry_later: Callable[[timedelta], Awaitable[None]]
    """Let time pass for a hurry: the clock is the database's."""
    replay: Callable[[Sequence[Event]], Awaitable[object]]
    """What a restored store is told again, in a transaction of its own."""
    age_lease: Callable[[str, timedelta], Awaitable[None]]
    """Make a worker's lease older than it is: the clock is the database's, so no test can turn it."""

    async def agent(self, agent_id: str) -> Agent:
        """Return the one agent with this id."""
        (found,) = await self.agents.find_agents(agent_id)
        return found


def digest_of(token_id: str) -> bytes:
    """Return a digest for a token that has no secret."""
    return hashlib.sha256(token_id.encode()).digest()


async def create_token(store: TokenStore, token_id: str = "token-1", terms: TokenTerms | None = None) -> str:
    """Create a token; return its id."""
    await store.create_token(token_id, digest_of(token_id), terms or TokenTerms("web servers"), actor="ada")
    return token_id


def new_agent(
    agent_id: str,
    *,
    status: AgentStatus = AgentStatus.ACTIVE,
    application: Application | None = None,
    token_id: str | None = None,
) -> NewAgent:
    """Return an agent with a key of its own."""
    applied = application or replace(APPLICATION, key_id=f"key-{agent_id}", hostname=f"host-{agent_id}")
    return NewAgent(agent_id, status, applied, tags=(Tag("role", "web"),), evidence="", token_id=token_id)


def leaf(agent_id: str, serial: str, *, issued_at: datetime = ISSUED) -> LeafRecord:
    """Return a leaf as it is stored."""
    return LeafRecord(
        serial=serial,
        agent_id=agent_id,
        pem=f"leaf {serial}",
        sha256=digest_of(serial),
        issued_at=issued_at,
        not_after=issued_at + timedelta(days=90),
        authority_sha256=digest_of("authority"),
    )


async def enrol(store: StoreUnderTest, *agent_ids: str, status: AgentStatus = AgentStatus.ACTIVE) -> None:
    """Admit agents."""
    token = await create_token(store.tokens, f"token-of-{agent_ids[0]}")
    for agent_id in agent_ids:
        await store.enrolment.admit(new_agent(agent_id, status=status, token_id=token), leaf=None)


async def open_stream(store: StoreUnderTest, agent_id: str, worker_id: str = "worker-1") -> int:
    """Open a stream; return its generation."""
    opened = await store.streams.open_stream(
        StreamOpening(agent_id, f"key-{agent_id}", worker_id, timedelta(seconds=30))
    )
    assert isinstance(opened, StreamOpened)
    return opened.generation


def beat(
    agent_id: str, generation: int, *, vitals: Vitals = VITALS, facts: Facts | None = None
) -> HeartbeatWrite:
    """Return a heartbeat."""
    return HeartbeatWrite(agent_id, generation, vitals, facts)

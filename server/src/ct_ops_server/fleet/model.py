"""Values of the fleet. Frozen, without behaviour that needs a clock, a store or a network.

Whatever is built here from an agent's frame is already storable: ``edge.convert`` has removed what
a database would choke on (rule 15), so a flow never needs to doubt a string or a number again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from ct_ops_server.fleet.sides import Side


class AgentStatus(StrEnum):
    """What an operator decided about an agent. Whether it is connected is another question."""

    PENDING = "pending"
    ACTIVE = "active"
    REVOKED = "revoked"
    QUARANTINED = "quarantined"
    """Two hosts are it, as far as the evidence goes. Existing agents are told ``pending``."""


class Disk(Struct, frozen=True):
    """One mounted file system. Sizes in bytes, ``percent_used`` 0 to 100."""

    mount_point: str
    device: str
    fs_type: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    percent_used: float


class Interface(Struct, frozen=True):
    """One network interface as the agent sees it."""

    name: str
    ip_addresses: list[str]
    mac_address: str
    is_up: bool


class Facts(Struct, frozen=True):
    """The part of a heartbeat that is a list: stored only when it changed."""

    disks: list[Disk]
    interfaces: list[Interface]


class Vitals(Struct, frozen=True):
    """The scalar part of a heartbeat: latest value wins, percentages 0 to 100."""

    cpu_percent: float
    memory_percent: float
    disk_percent: float
    uptime_s: int
    reported_at_s: int
    """The agent's own clock, Unix seconds; 0 when it sent nothing usable."""
    agent_version: str
    os: str
    os_version: str
    arch: str


class Frame(Struct, frozen=True):
    """One heartbeat frame, storable."""

    vitals: Vitals
    facts: Facts
    clock_skew: timedelta | None = None
    """The agent's clock minus ours, as the agent measured it; None when it did not."""


ENROLLED_AFTER_BACKUP = "enrolled after the backup"
SPLIT_AFTER_BACKUP = "enrolled and split after the backup: copies hold its key"
"""The evidence of an agent whom a restored store does not know and whose leaf is ours."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A label on an agent. Only operators and enrolment tokens set those that select (rule 16)."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Agent:
    """Everything an operator sees about one agent, read at one moment."""

    id: str
    hostname: str
    status: AgentStatus
    online: bool
    last_seen_at: datetime | None
    created_at: datetime
    key_id: str
    """SHA-256 of the canonical public key (SPKI DER), hex."""
    observed_address: str
    """Source address of its registration, as the front door saw it."""
    tags: tuple[Tag, ...] = ()
    claimed_tags: tuple[Tag, ...] = ()
    evidence: str = ""
    """Why a pending agent was not admitted by itself; empty when there is nothing to say."""
    vitals: Vitals | None = None
    facts: Facts | None = None
    leaf_not_after: datetime | None = None
    clock_skew: timedelta | None = None
    """Its clock minus the server's, at the latest heartbeat; None when it is not known."""
    token_id: str | None = None
    """The enrolment token that admitted it."""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """One line of an agent's status history."""

    at: datetime
    status: AgentStatus
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """An agent whose connections must end, on every process."""

    number: int
    """In the order of the commits, without holes."""
    agent_id: str
    reason: str
    """What the agent is told: a key of ``edge.refusals``."""
    age: timedelta
    """Since the decision was stored, by the database's clock."""


@dataclass(frozen=True, slots=True)
class DeletedAgent:
    """What is kept of an agent that an operator deleted."""

    id: str
    hostname: str
    status: AgentStatus
    """What it was when it was deleted: a revoked agent's key stays barred."""
    deleted_at: datetime
    actor: str
    reason: str
    history: tuple[StatusChange, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamOpening:
    """A stream that wants to count as this agent's presence."""

    agent_id: str
    key_id: str
    """The key that the leaf certifies: it must still be the agent's."""
    worker_id: str
    interval: timedelta | None
    """The agent's declared heartbeat interval; existing agents never say it."""
    side: Side | None = None
    """Who opens it; None: nothing is made of it."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The stream's generation: every later write of the stream names it (rule 18)."""

    generation: int
    must_rotate: bool = False
    """A copy holds its key: it shall have another one."""


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """The agent's row does not admit a stream. ``status`` is None when there is no such agent."""

    status: AgentStatus | None
    key_replaced: bool = False
    """The agent has another key by now."""
    split_off: bool = False
    """An operator has split the agent, and this is not the side that was kept."""
    clone_found: bool = field(default=False, compare=False)
    """It is quarantined because of this very opening."""


@dataclass(frozen=True, slots=True)
class HeartbeatWrite:
    """One frame on its way into the store."""

    agent_id: str
    generation: int
    vitals: Vitals
    facts: Facts | None
    """None: the same as the frame before on this stream, nothing to write."""
    clock_skew: timedelta | None = None
    """The agent's clock minus the server's; None when it is not known."""


@dataclass(frozen=True, slots=True)
class StreamClosing:
    """A stream that ended. Changes nothing when the agent has a younger stream."""

    agent_id: str
    generation: int

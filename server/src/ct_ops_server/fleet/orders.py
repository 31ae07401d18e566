"""Orders: what operators asked of agents and what became of it, as it is kept. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ct_ops_server.fleet.items import OpenPort, ServiceState
from ct_ops_server.fleet.tasks import TaskState

QUERY_TYPES = ("list_ports", "list_services")
QUERY_LIFETIME = timedelta(minutes=2)
"""How long a query waits for its answer."""
LONGEST_QUERY = timedelta(minutes=10)
MOST_OPEN_QUERIES = 64
MOST_OPEN_TASKS = 64
"""Of one agent."""


@dataclass(frozen=True, slots=True)
class NewQuery:
    """A query that is asked."""

    id: str
    agent_id: str
    query_type: str
    actor: str
    lifetime: timedelta = QUERY_LIFETIME


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """A query, and its answer when there is one."""

    id: str
    agent_id: str
    query_type: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    is_overdue: bool
    """Its time was over when it was read, by the database's clock."""
    answered_at: datetime | None = None
    error: str = ""
    ports: tuple[OpenPort, ...] = ()
    services: tuple[ServiceState, ...] = ()

    @property
    def state(self) -> str:
        """``waiting``, ``answered``, ``failed`` or ``expired``."""
        if self.answered_at is not None:
            return "failed" if self.error else "answered"
        return "expired" if self.is_overdue else "waiting"

    @property
    def is_waiting(self) -> bool:
        """Whether an answer may still come in time."""
        return self.answered_at is None and not self.is_overdue


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task that is given."""

    id: str
    agent_id: str
    task_type: str
    config_json: str
    actor: str
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task and what is known of it."""

    id: str
    agent_id: str
    hostname: str
    task_type: str
    config_json: str
    state: TaskState
    attempt: int
    created_at: datetime
    created_by: str
    expires_at: datetime
    sent_at: datetime | None = None
    accepted_at: datetime | None = None
    """The first sign of life of the latest attempt."""
    ended_at: datetime | None = None
    cancelled_by: str = ""
    exit_code: int | None = None
    result_json: str = ""
    error: str = ""
    refused: str = ""
    output_chars: int = 0
    output_is_cut: bool = False


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """What a task's latest attempt has said."""

    attempt: int
    text: str
    starts_at: int
    """Of the text in the attempt's output, in characters: at its beginning a piece may still be missing."""

    @property
    def ends_at(self) -> int:
        """Where the next text begins."""
        return self.starts_at + len(self.text)


@dataclass(frozen=True, slots=True)
class ScannedPackage:
    """A package as a scan reports it. Its first four fields are what it is known by."""

    source: str
    name: str
    version: str
    architecture: str
    publisher: str
    installed_at_s: int
    """Unix seconds; 0: not known."""


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """A package of a host, and since when."""

    package: ScannedPackage
    first_seen_at: datetime
    last_seen_at: datetime
    """The latest scan that found it."""
    removed_at: datetime | None = None
    """The first scan that did not find it any more."""
    returned_at: datetime | None = None
    """The latest scan that found it again after it had been removed."""

    @property
    def installed_at(self) -> datetime | None:
        """When its package manager says that it was installed."""
        seconds = self.package.installed_at_s
        return datetime.fromtimestamp(seconds, UTC) if seconds else None


@dataclass(frozen=True, slots=True)
class ScanStored:
    """What a complete scan has changed."""

    found: int
    new: int
    removed: int

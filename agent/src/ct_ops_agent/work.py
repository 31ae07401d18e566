"""Work: what a server asks of this agent, and what comes of it. Values only.

Three kinds are asked for: *checks* (probes that run on their interval until the list without them
comes), *queries* (one-shot questions) and *tasks* (pieces of work with progress and one result). The
values here are the same whoever asks, an existing server or ours; `transport.convert` makes them from
messages and messages from them, `checks` and `tasks` do the work, `delivery` brings the results home.

Texts of a server are already printable and bounded where they come from `transport`; ``config_json`` is
as the server sent it, bounded, and whoever runs the work parses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class CheckDefinition:
    """A probe to run."""

    check_id: str
    check_type: str
    config_json: str = field(repr=False)
    """May hold a secret: the password of a key store."""

    interval_s: float
    timeout_s: float = 0.0
    """0: the default of its type."""


@dataclass(frozen=True, slots=True)
class Query:
    """A one-shot question."""

    query_id: str
    query_type: str


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work."""

    task_id: str
    task_type: str
    config_json: str = field(repr=False)
    attempt: int = 0
    """From 1; 0 from an existing server, which does not count them."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one frame of the server asks for."""

    checks: tuple[CheckDefinition, ...] | None = None
    """The full list. ``None``: this frame says nothing about checks; the empty list stops them all."""

    queries: tuple[Query, ...] = ()
    task: Task | None = None
    cancelled_task_ids: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Work()


class CheckStatus(StrEnum):
    """How a check went."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    """The check itself could not be done: nothing is known about what it looks at."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One run of a check."""

    check_id: str
    status: CheckStatus
    output: str
    duration_ms: int
    ran_at_ms: int
    """Unix milliseconds of its start; with the check's id the key that a repeated result is known by."""


@dataclass(frozen=True, slots=True)
class OpenPort:
    """A listening port."""

    port: int
    protocol: str
    """``tcp``, ``tcp6``, ``udp`` or ``udp6``."""

    process: str
    """Empty: not ours to see."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service of the host's service manager."""

    name: str
    load_state: str
    active_sub: str
    """As systemd writes it, ``active/running``."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query."""

    query_id: str
    query_type: str
    error: str = ""
    """Empty: it went well."""

    ports: tuple[OpenPort, ...] = ()
    services: tuple[ServiceState, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskAccepted:
    """This agent has taken an attempt of a task and is about to start it."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """A piece of a running task's output."""

    task_id: str
    attempt: int
    offset: int
    """Of this chunk in the attempt's output, in characters."""

    chunk: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How an attempt of a task ended."""

    task_id: str
    task_type: str
    attempt: int
    exit_code: int
    """0: well. -1: it was refused, or ended without a code of its own."""

    result_json: str = ""
    error: str = ""
    refused: str = ""
    """Why it was not done at all (``unsupported_task``, ``bad_config``, ``interrupted``); else empty."""


Result: TypeAlias = CheckResult | QueryResult | TaskAccepted | TaskProgress | TaskResult


class Results(Protocol):
    """Where results go: `delivery`. Safe to call from any task of the event loop."""

    async def put(self, result: Result) -> None:
        """Keep a result until it is acknowledged. Returns when it is durable, where delivery is numbered."""


@dataclass(frozen=True, slots=True)
class SoftwarePackage:
    """An installed package, as its package manager calls it."""

    name: str
    version: str
    architecture: str = ""
    publisher: str = ""
    installed_at_unix: int = 0
    """0: not known."""


@dataclass(frozen=True, slots=True)
class InventoryChunk:
    """A part of one software scan. Without the last one the scan changes nothing on the server."""

    task_id: str
    attempt: int
    source: str
    """``dpkg``, ``rpm``, ``pacman`` or ``apk``."""

    index: int
    is_last: bool
    packages: tuple[SoftwarePackage, ...] = field(repr=False)


class Link(Protocol):
    """The connection of a stream that was welcomed, for work that needs calls of its own."""

    @property
    def features(self) -> tuple[str, ...]:
        """Abilities of the server; an existing one has none."""

    async def upload_inventory(self, chunks: Iterable[InventoryChunk]) -> int:
        """Upload a scan; return how many packages the server has stored.

        Raises:
            AgentError: it was not stored; nothing on the server has changed.
        """


class Works(Protocol):
    """Does what is asked, in tasks of its own: nothing here waits for the work."""

    def connected(self, link: Link) -> None:
        """A stream was welcomed; what comes next is asked on it."""

    def take(self, work: Work) -> None:
        """Start, change and stop what this frame of the server asks for."""

    def disconnected(self) -> None:
        """The stream has ended. Checks go on; what needs the link waits for the next one."""

"""Checks as the server keeps them: values. What each type is told is `ct_ops_proto.checks`.

A check belongs to one agent. Its *definition* is what an operator said; its *state* is what its newest
result says. A change of a definition has a number, so that whoever hands definitions to agents can ask for
what changed after the last number it knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ct_ops_server.fleet.items import CheckStatus

SHORTEST_INTERVAL = timedelta(seconds=10)
LONGEST_INTERVAL = timedelta(seconds=3_600)
DEFAULT_INTERVAL = timedelta(seconds=60)
LONGEST_TIMEOUT = timedelta(seconds=300)
MOST_CHECKS = 200
"""Of one agent."""
MOST_CONFIG_CHARS = 512 * 1024
"""Of all of an agent's checks together: they travel in one frame."""
KEPT_RESULTS = 1_000
"""Of one check; older ones are forgotten."""
MAX_OUTPUT_CHARS = 16 * 1024
"""Of one result, as it is stored."""

NO_CHECKS_ID = "no-checks"
"""Of the check that stands for none, see ``fleet.check_delivery``; no other check is ever called so."""


@dataclass(frozen=True, slots=True)
class NewCheck:
    """A check that an operator defines."""

    id: str
    agent_id: str
    name: str
    type: str
    config: str = field(repr=False)
    """As it is stored: the text of its configuration, sealed when there is a secret in it."""
    interval: timedelta = DEFAULT_INTERVAL
    timeout: timedelta = timedelta()
    """Nothing: the default of its type."""


@dataclass(frozen=True, slots=True)
class CheckState:
    """What is known from the newest result."""

    status: CheckStatus
    since: datetime
    """Start of the first run with this status without another one in between."""
    ran_at: datetime
    """Start of the newest run, by the agent's clock."""
    acknowledged_at: datetime
    """When the newest result was stored here."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check with what is known of it."""

    id: str
    agent_id: str
    hostname: str
    name: str
    type: str
    config: str = field(repr=False)
    """As it is stored, see `NewCheck`."""
    interval: timedelta
    timeout: timedelta
    enabled: bool
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str
    state: CheckState | None = None
    """None: no result yet."""


@dataclass(frozen=True, slots=True)
class StoredDefinition:
    """What an agent needs to know of an enabled check."""

    id: str
    type: str
    config: str = field(repr=False)
    interval: timedelta
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result with what it belongs to."""

    agent_id: str
    check_id: str
    name: str
    status: CheckStatus
    output: str
    duration: timedelta
    ran_at: datetime
    """As the agent said it."""
    received_at: datetime


@dataclass(frozen=True, slots=True)
class CheckFreshness:
    """Whether an enabled check's results come, for whoever decides how healthy its agent is."""

    agent_id: str
    check_id: str
    name: str
    interval: timedelta
    defined_at: datetime
    """Since when it has been asked for like this: its last change."""
    ran_at: datetime | None
    """Start of its newest run, by the agent's clock; None: there was none yet."""
    acknowledged_at: datetime | None
    """When that was stored here, by ours."""


class CheckLimitError(Exception):
    """An agent has as many checks as it may have. ``str()`` is a sentence for the operator."""


class CheckOwnerMissingError(Exception):
    """The agent was deleted meanwhile, or is none that may have checks."""

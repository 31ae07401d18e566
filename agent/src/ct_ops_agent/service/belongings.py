"""Which files of a data directory are the agent's, so that taking it off leaves every other.

Each module keeps the names of its own files; this is where they meet. A test runs an agent and finds that
nothing else has appeared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ct_ops_agent.checks.kept import FILE as CHECKS_NAME
from ct_ops_agent.identity.carried_request import CARRIED_REPLY_NAME, CARRIED_REQUEST_NAME
from ct_ops_agent.identity.credentials import AGENT_CA_NAME, LEAF_NAME, STATE_NAME, TRUST_BUNDLE_NAME
from ct_ops_agent.identity.keystore import PRIVATE_KEY_NAME, PUBLIC_KEY_NAME
from ct_ops_agent.identity.rotation import NEXT_KEY_NAME, REQUEST_NAME
from ct_ops_agent.server_pin import SERVER_CERTIFICATE_NAME
from ct_ops_agent.status.place import STATUS_NAME
from ct_ops_agent.tasks.attempts import FILE as TASKS_NAME

_NAMES = frozenset(
    {
        AGENT_CA_NAME,
        CARRIED_REPLY_NAME,
        CARRIED_REQUEST_NAME,
        CHECKS_NAME,
        LEAF_NAME,
        NEXT_KEY_NAME,
        PRIVATE_KEY_NAME,
        PUBLIC_KEY_NAME,
        REQUEST_NAME,
        SERVER_CERTIFICATE_NAME,
        STATE_NAME,
        STATUS_NAME,
        TASKS_NAME,
        TRUST_BUNDLE_NAME,
    }
)
_OUTBOX = re.compile(r"outbox\.(sqlite3|damaged)(-wal|-shm|-journal)?")
_UNFINISHED = re.compile(r"\.(?P<name>.+)\.\d+\.new")
"""What a crash in the middle of a write leaves."""


def belongs_to_agent(name: str) -> bool:
    """Whether a file of this name in a data directory was made by an agent."""
    unfinished = _UNFINISHED.fullmatch(name)
    name = unfinished["name"] if unfinished else name
    return name in _NAMES or _OUTBOX.fullmatch(name) is not None


def foreign_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are somebody else's, sorted."""
    return tuple(sorted(name for name in names if not belongs_to_agent(name)))

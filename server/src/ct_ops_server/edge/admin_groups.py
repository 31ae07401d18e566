"""The groups that the admin API's routes come in, and the app that makes a group when it is first asked for.

To make all routes takes longer than to answer a request, and a command that runs without a server asks for one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

_AGENTS = "agents"


class Group(StrEnum):
    """Routes that are made together."""

    AGENTS = _AGENTS
    AUDIT = "audit"
    AUTHORITY = "authority"
    BUNDLES = "bundles"
    CARRIED = "carried requests"
    CHECKS = "checks"
    CLONES = "clones"
    HURRY = "hurry"
    NONE = "none"
    SAMPLES = "samples"
    SERVER_CA = "server CA"
    TOKENS = "tokens"
    WORK = "work"


_GROUP_OF_WORD = {
    _AGENTS: Group.AGENTS,
    "approve": Group.AGENTS,
    "deleted-agents": Group.AGENTS,
    "reject": Group.AGENTS,
    "restored-agents": Group.AGENTS,
    "revoke": Group.AGENTS,
    "audit": Group.AUDIT,
    "authority": Group.AUTHORITY,
    "recognised-authorities": Group.AUTHORITY,
    "bundles": Group.BUNDLES,
    "carried-requests": Group.CARRIED,
    "check-results": Group.CHECKS,
    "checks": Group.CHECKS,
    "clones": Group.CLONES,
    "merge": Group.CLONES,
    "replace": Group.CLONES,
    "split": Group.CLONES,
    "hurry": Group.HURRY,
    "samples": Group.SAMPLES,
    "series": Group.SAMPLES,
    "server-ca": Group.SERVER_CA,
    "imported-tokens": Group.TOKENS,
    "refusals": Group.TOKENS,
    "tokens": Group.TOKENS,
    "packages": Group.WORK,
    "queries": Group.WORK,
    "tasks": Group.WORK,
}


def group_of(path: str) -> Group:
    """Return the group of a path: ``/v1/WORD…`` says it, ``/v1/agents/AGENT/WORD`` says it of an agent."""
    words = path.split("/")[2:]
    at = 2 if len(words) > 2 and words[0] == _AGENTS else 0
    return _GROUP_OF_WORD.get(words[at] if words else "", Group.NONE)


class GroupedApp:
    """An ASGI app of one app for each group."""

    def __init__(self, make: Callable[[Group], Any]) -> None:
        self._make = make
        self._made: dict[Group, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        group = group_of(scope["path"])
        if group not in self._made:
            self._made[group] = self._make(group)
        await self._made[group](scope, receive, send)

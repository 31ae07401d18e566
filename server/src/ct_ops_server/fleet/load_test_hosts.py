"""Hosts of load tests, deleted many at a time.

A load test leaves hundreds or thousands of agents behind. They are known by their hostname alone, so the rule is about
hostnames: what this desk deletes starts with ``loadtest-``, compared letter by letter. A prefix is a prefix and no
pattern: ``%`` and ``_`` in it mean themselves (on existing servers they match anything).

Each is deleted as an operator would delete it: with a tombstone, and with its connections ended. Doing it again is harmless,
and whatever could not be deleted is named with its reason while the others are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ct_ops_server.fleet.endings import TOPIC
from ct_ops_server.fleet.ports import AgentStore, StoreError

PREFIX = "loadtest-"
LONGEST_PREFIX = 200
ACTOR = "load test"
_AT_ONCE = 16
"""So many share a commit: heartbeats of others wait for no more than that."""


class PrefixError(ValueError):
    """No prefix of load-test hosts. ``str()`` is a sentence."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What came of it."""

    deleted: int
    failed: Sequence[str]
    """``<hostname>: <error>``, by hostname."""


class LoadTestHosts:
    """The desk that deletes them."""

    def __init__(self, store: AgentStore, *, hint: Callable[[str], None]) -> None:
        """Prepare the desk; ``hint`` tells the push bus of this process what was decided."""
        self._store = store
        self._hint = hint

    async def delete(self, prefix: str) -> Deleted:
        """Delete every agent whose hostname starts with the prefix.

        Raises:
            PrefixError: it would reach other hosts.
            StoreError: the database does not answer.
        """
        check_prefix(prefix)
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(agent_id: str, hostname: str) -> bool | str:
            async with turns:
                try:
                    return await self._store.delete_agent(
                        agent_id, actor=ACTOR, reason=f"bulk-delete of {prefix}"
                    )
                except StoreError as error:
                    return f"{hostname}: {error}"

        hosts = await self._store.hosts_starting_with(prefix)
        outcomes = await asyncio.gather(*(one(agent_id, hostname) for agent_id, hostname in hosts))
        if hosts:
            self._hint(TOPIC)
        return Deleted(
            sum(outcome is True for outcome in outcomes),
            sorted(outcome for outcome in outcomes if isinstance(outcome, str)),
        )


def check_prefix(prefix: str) -> None:
    """Raise ``PrefixError`` unless only hosts of load tests can have it."""
    if not 1 <= len(prefix) <= LONGEST_PREFIX:
        raise PrefixError(f"hostnamePrefix must have 1 to {LONGEST_PREFIX} characters")
    if not prefix.isprintable():  # a database may refuse the others; no hostname needs them
        raise PrefixError("hostnamePrefix holds a character that no hostname has")
    if not prefix.startswith(PREFIX):
        raise PrefixError(f"hostnamePrefix must start with '{PREFIX}'")

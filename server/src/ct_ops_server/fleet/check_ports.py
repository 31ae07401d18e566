"""What checks need of a store.

``store.checks`` implements it on SQLite and PostgreSQL, ``tests/fakes`` in memory; all pass the same contract
suite. Every method may raise the errors of ``fleet.ports``. Results are stored by an item writer
(``store.check_results``), so there is no method for it here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from ct_ops_server.fleet.check_model import Check, CheckFreshness, NewCheck, StoredDefinition, StoredResult


class CheckStore(Protocol):
    """Definitions and results of checks."""

    async def add_check(self, new: NewCheck, *, actor: str) -> Check:
        """Store a check, enabled, and number the change.

        Raises:
            CheckLimitError: the agent has as many as it may have, or they are too large together.
            CheckOwnerMissingError: there is no such agent, or it was revoked.
        """

    async def set_enabled(self, check_id: str, *, enabled: bool, actor: str) -> bool | None:
        """Enable or disable a check, and number the change. False: it was so already; None: no such check."""

    async def remove_check(self, check_id: str, *, actor: str) -> bool:
        """Remove a check and its results, and number the change. False: there is none."""

    async def find_checks(self, selector: str) -> Sequence[Check]:
        """Checks whose id is ``selector``, else whose id starts with it, else with exactly this name.

        At most a few; more than one means the selector is ambiguous.
        """

    async def list_checks(self, *, agent_id: str | None = None) -> Sequence[Check]:
        """Checks of one agent or of all, by hostname, name and id."""

    async def check_results(
        self,
        *,
        check_id: str | None = None,
        agent_id: str | None = None,
        newer_than: timedelta | None = None,
        limit: int,
    ) -> Sequence[StoredResult]:
        """Return results of one check or of all of an agent's, newest run first."""

    async def prune_results(self, *, keep: int) -> int:
        """Forget all but the newest ``keep`` of each check, in a bounded chunk; return how many are gone.

        A check may have a tenth more before it is looked at. Nothing to do returns 0.
        """

    async def last_change(self) -> int:
        """Return the number of the latest change, 0 when there never was one."""

    async def agents_changed_after(self, number: int) -> Sequence[str]:
        """Return the agents whose definitions changed later than that."""

    async def definitions(self, agent_ids: Sequence[str]) -> Mapping[str, Sequence[StoredDefinition]]:
        """Return the enabled checks of these agents, each list by id.

        An agent that has none but once had is there with an empty list; one that never had is not.
        """

    async def freshness(self, *, agent_id: str | None = None) -> Sequence[CheckFreshness]:
        """Return when each enabled check of one agent, or of all, last had a result."""

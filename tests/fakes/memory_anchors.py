"""Which server CAs agents believe, in memory: the same contract suite as the real rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from ct_ops_server.fleet.following import NAMED, AnchorSource, Believed, Following
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_store import MemoryStore

Reports = dict[str, Believed]


class MemoryAnchors:
    """``fleet.anchor_log.AnchorStore``, beside the store that knows agents."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._reports: Reports = {}

    def snapshot(self) -> Reports:
        """Return a backup."""
        return copy.copy(self._reports)

    def restore(self, backup: Reports) -> None:
        """Go back to a backup."""
        self._reports = copy.copy(backup)

    def knows(self, agent_id: str) -> bool:
        """Tell whether an agent ever reported what it believes: an existing one does not."""
        return agent_id in self._reports

    async def record(self, reports: Mapping[str, Believed]) -> None:
        self._reports |= {each: report for each, report in reports.items() if self._store.knows(each)}

    async def following(self, *any_of: bytes) -> Following:
        active = await self._store.list_agents(status=AgentStatus.ACTIVE)
        reports = {agent.id: self._reports.get(agent.id) for agent in active}
        behind = [agent for agent in active if not _believes(reports[agent.id], any_of)]
        existing = [agent for agent in behind if reports[agent.id] is None]
        named = sorted(behind, key=lambda agent: (reports[agent.id] is not None, agent.hostname, agent.id))
        return Following(
            agents=len(active),
            following=len(active) - len(behind),
            existing=len(existing),
            configured=sum(_is_configured(reports[agent.id]) for agent in behind),
            names=tuple(agent.hostname for agent in named[:NAMED]),
        )


def _believes(report: Believed | None, any_of: Sequence[bytes]) -> bool:
    return report is not None and not report.anchors.isdisjoint(any_of)


def _is_configured(report: Believed | None) -> bool:
    return report is not None and report.source is not AnchorSource.LEARNT

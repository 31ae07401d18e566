"""What is counted about the agent CA: how long it lasts, who has a leaf of which, and who lags behind a step."""

from __future__ import annotations

from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Gauge

from ct_ops_server.authority.life_cycle import TrustState
from ct_ops_server.authority.rotation import Overview
from ct_ops_server.edge.scraping import LATEST

_TOLD = (TrustState.PREPARED, TrustState.ACTIVE, TrustState.OUTGOING)


class AuthorityMetrics:
    """The gauges."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.days = Gauge(
            "ct_ops_agent_ca_days_left",
            "Days until the agent CA in this state ends, and every leaf of it; -1 while there is none",
            ["state"],
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.agents = Gauge(
            "ct_ops_agents_by_agent_ca",
            "Active agents whose latest leaf has not ended, by the state of the agent CA that signed it",
            ["state"],
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.behind = Gauge(
            "ct_ops_workers_behind_agent_ca",
            "Workers that have not taken up the latest step of a rotation",
            registry=registry,
            multiprocess_mode=LATEST,
        )

    def looked(self, overview: Overview, now: datetime) -> None:
        """Show what was found."""
        for state in TrustState:
            found = [each for each in overview.authorities if each.state is state]
            self.agents.labels(state=state.value).set(sum(each.good for each in found))
            if state in _TOLD:
                ends = [(each.not_after - now) / timedelta(days=1) for each in found]
                self.days.labels(state=state.value).set(round(min(ends, default=-1.0), 1))
        self.behind.set(len(overview.stragglers))

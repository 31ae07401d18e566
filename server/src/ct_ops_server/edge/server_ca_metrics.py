"""What is counted about the server CA: how long what existing agents believe lasts, and who believes the newest."""

from __future__ import annotations

from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Gauge

from ct_ops_server.edge.scraping import LATEST
from ct_ops_server.fleet.hurry import HurryState
from ct_ops_server.fleet.server_ca_watch import Outlook


class ServerCaMetrics:
    """The gauges."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.days = Gauge(
            "ct_ops_server_ca_days_left",
            "Days until the server CA ends that existing agents believe; they cannot learn another",
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.existing = Gauge(
            "ct_ops_agents_that_cannot_follow",
            "Active agents that cannot learn another server CA, in the database",
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.following = Gauge(
            "ct_ops_agents_that_believe_newest_server_ca",
            "Active agents that have confirmed the newest server CA, in the database",
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.stuck = Gauge(
            "ct_ops_server_ca_stuck",
            "1 while this server does not do what it should about the server CA (the log says why), else 0",
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.hurry_halted = Gauge(
            "ct_ops_hurry_halted",
            "1 while a hurry has halted because agents did not come back, else 0",
            registry=registry,
            multiprocess_mode=LATEST,
        )

    def hurry_stepped(self, state: HurryState | None) -> None:
        """Show whether somebody has to look."""
        self.hurry_halted.set(1 if state is HurryState.HALTED else 0)

    def looked(self, outlook: Outlook, now: datetime) -> None:
        """Show what was found."""
        self.days.set(round((outlook.end - now) / timedelta(days=1), 1))
        self.existing.set(outlook.following.existing)
        self.following.set(outlook.following.following)
        self.stuck.set(1 if outlook.is_stuck else 0)

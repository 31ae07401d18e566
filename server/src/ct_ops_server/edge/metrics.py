"""What the edge counts, in Prometheus' terms. Scraped from ``/metrics`` of the local app."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ct_ops_server.edge.delivery_metrics import DeliveryMetrics
from ct_ops_server.edge.scraping import LARGEST, LATEST, SMALLEST, SUMMED
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.tasks import TaskState

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_GROUP = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class EdgeMetrics:
    """Counters of the front door and the agent service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge(
            "ct_ops_connections",
            "Open connections behind the front door",
            ["room"],
            registry=registry,
            multiprocess_mode=SUMMED,
        )
        self.handshakes = Counter("ct_ops_tls_handshakes", "Completed TLS handshakes", registry=registry)
        self.handshakes_failed = Counter(
            "ct_ops_tls_handshakes_failed",
            "TLS handshakes that were not completed: unknown_authority, certificate, protocol, timeout, left",
            ["reason"],
            registry=registry,
        )
        self.handshake_seconds = Histogram(
            "ct_ops_tls_handshake_seconds",
            "Duration of a completed TLS handshake, the client's part included",
            buckets=_SECONDS,
            registry=registry,
        )
        self.connections_refused = Counter(
            "ct_ops_connections_refused",
            "Connections closed by the front door",
            ["reason"],
            registry=registry,
        )
        self.refusals = Counter(
            "ct_ops_rpc_refusals", "RPCs answered with a refusal", ["method", "reason"], registry=registry
        )
        self.refusals_dropped = Counter(
            "ct_ops_refusals_not_recorded",
            "Refused Registers that `refusals list` will not show",
            registry=registry,
        )
        self.rpc_seconds = Histogram(
            "ct_ops_rpc_seconds",
            "Duration of an RPC that was not refused, heartbeat streams excepted",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.registrations = Counter(
            "ct_ops_registrations", "Answered Register RPCs by status", ["status"], registry=registry
        )
        self.streams = Gauge(
            "ct_ops_heartbeat_streams", "Open heartbeat streams", registry=registry, multiprocess_mode=SUMMED
        )
        self.streams_opened = Counter(
            "ct_ops_heartbeat_streams_opened", "Heartbeat streams that were let in", registry=registry
        )
        self.clones = Counter(
            "ct_ops_clones", "Agents that were quarantined because two hosts spoke as them", registry=registry
        )
        self.heartbeats = Counter("ct_ops_heartbeats", "Heartbeat frames committed", registry=registry)
        self.heartbeat_seconds = Histogram(
            "ct_ops_heartbeat_commit_seconds",
            "From a frame's arrival to its commit",
            buckets=_SECONDS,
            registry=registry,
        )
        self.delivery = DeliveryMetrics(registry)
        self.revocation_seconds = Histogram(
            "ct_ops_revocation_seconds",
            "From the decision about an agent to the end of its connections on this process",
            buckets=_SECONDS,
            registry=registry,
        )
        self.push_seconds = Histogram(
            "ct_ops_push_seconds",
            "From a query's or task's commit to the moment it was written to its agent's stream here",
            buckets=_SECONDS,
            registry=registry,
        )
        self.http_requests = Counter(
            "ct_ops_http_requests", "Answered HTTP requests", ["app", "status"], registry=registry
        )
        self.agents = Gauge(
            "ct_ops_agents",
            "Agents by what was decided about them: pending, active, revoked, quarantined; in the database, each 30 s",
            ["status"],
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.inventories = Counter(
            "ct_ops_inventories", "Software scans that were uploaded and stored", registry=registry
        )
        self.tasks = Gauge(
            "ct_ops_tasks",
            "Tasks that are not over, by state, in the database",
            ["state"],
            registry=registry,
            multiprocess_mode=LATEST,
        )

    def http_answered(self, app: str, status: int) -> None:
        """Count an answered HTTP request."""
        self.http_requests.labels(app=app, status=str(status)).inc()

    def agents_counted(self, counted: Mapping[AgentStatus, int]) -> None:
        """Show how many agents there are."""
        for status, count in counted.items():
            self.agents.labels(status=status.value).set(count)

    def tasks_counted(self, counted: Mapping[TaskState, int]) -> None:
        """Show how many open tasks there are."""
        for state, count in counted.items():
            self.tasks.labels(state=state.value).set(count)


class StoreMetrics:
    """What the group-commit writer tells about itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.group_size = Histogram(
            "ct_ops_store_group_size", "Writes in one transaction", buckets=_GROUP, registry=registry
        )
        self.commit_seconds = Histogram(
            "ct_ops_store_commit_seconds", "Duration of one transaction", buckets=_SECONDS, registry=registry
        )
        self.wait_seconds = Histogram(
            "ct_ops_store_wait_seconds",
            "How long the oldest write of a transaction had waited for it to begin",
            buckets=_SECONDS,
            registry=registry,
        )
        self.pending = Gauge(
            "ct_ops_store_pending_writes",
            "Writes that are not committed yet",
            registry=registry,
            multiprocess_mode=SUMMED,
        )
        self.lag = Gauge(
            "ct_ops_store_lag_seconds",
            "How long the oldest write that is not committed yet has waited, in the worst worker",
            registry=registry,
            multiprocess_mode=LARGEST,
        )
        self.database_up = Gauge(
            "ct_ops_database_up",
            "1 after a transaction that was committed, 0 after one that the database did not answer; "
            "every worker writes each 5 s or more often",
            registry=registry,
            multiprocess_mode=SMALLEST,
        )
        self.database_up.set(1)
        self.refused = Counter(
            "ct_ops_store_writes_refused",
            "Writes that the database refused also alone",
            ["kind"],
            registry=registry,
        )
        self.unavailable = Counter(
            "ct_ops_store_writes_unavailable",
            "Writes refused because the database did not answer",
            registry=registry,
        )

    def group_committed(self, writes: int, seconds: float) -> None:
        """Count a transaction."""
        self.group_size.observe(writes)
        self.commit_seconds.observe(seconds)
        self.database_up.set(1)

    def group_taken(self, waited_s: float) -> None:
        """Count how long the first of a group waited."""
        self.wait_seconds.observe(waited_s)

    def database_lost(self) -> None:
        """Show that the database does not answer."""
        self.database_up.set(0)

    def writer_looked_at(self, waiting: int, lag_s: float) -> None:
        """Show what waits."""
        self.pending.set(waiting)
        self.lag.set(lag_s)

    def write_refused(self, kind: str) -> None:
        """Count a write that cannot be stored."""
        self.refused.labels(kind=kind).inc()

    def writes_unavailable(self, writes: int) -> None:
        """Count writes that failed because the database does not answer."""
        self.unavailable.inc(writes)

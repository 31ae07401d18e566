"""What is counted of deliveries. No label is of an agent's choosing: each would be a series of its own."""

from __future__ import annotations

from collections import Counter as TallyOf
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ct_ops_server.edge.scraping import LATEST
from ct_ops_server.fleet.delivery import Delivered
from ct_ops_server.fleet.health import ReasonCode
from ct_ops_server.fleet.items import KINDS, CheckResult, Gap, Item

_ITEMS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


class DeliveryMetrics:
    """Counters of what agents bring home, and of who does not."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batches = Counter(
            "ct_ops_batches",
            "Numbered batches by what became of them: stored, mismatch, later",
            ["verdict"],
            registry=registry,
        )
        self.batch_items = Histogram(
            "ct_ops_batch_items",
            "Items of a numbered batch that is stored",
            buckets=_ITEMS,
            registry=registry,
        )
        self.items_stored = Counter(
            "ct_ops_items_stored",
            "Delivered items that are stored, repeated ones included, by kind",
            ["kind"],
            registry=registry,
        )
        self.items_refused = Counter(
            "ct_ops_items_refused", "Delivered items that were not stored", ["reason"], registry=registry
        )
        self.items_lost = Counter(
            "ct_ops_items_lost", "Items that agents say they had to drop", registry=registry
        )
        self.check_results = Counter(
            "ct_ops_check_results", "Stored results of checks by status", ["status"], registry=registry
        )
        self.rows_removed = Counter(
            "ct_ops_rows_removed",
            "Rows removed because they were past keeping, by table; of dropped partitions the database's estimate",
            ["table"],
            registry=registry,
        )
        self.rollup_lag = Gauge(
            "ct_ops_rollup_lag_seconds",
            "How long the samples that have been ready longest wait to be rolled up, by the server that last did",
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.rollup_steps = Histogram(
            "ct_ops_rollup_step_seconds",
            "Time that one step of rolling up took",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=registry,
        )
        self.degraded = Gauge(
            "ct_ops_degraded_agents",
            "Connected agents whose data does not come, in the database; the same on every server",
            registry=registry,
            multiprocess_mode=LATEST,
        )
        self.degraded_by_reason = Gauge(
            "ct_ops_degraded_agents_by_reason",
            "The same by reason; an agent may have several",
            ["reason"],
            registry=registry,
            multiprocess_mode=LATEST,
        )

    def delivered(self, items: Sequence[tuple[int, Item]], delivered: Delivered) -> None:
        """Count a delivery; one that had been stored before is not counted again."""
        if not delivered.is_new:
            return
        refused = {each.index for each in delivered.refused}
        for each in delivered.refused:
            self.items_refused.labels(reason=each.reason).inc()
        stored = [item for index, item in items if index not in refused]
        for kind, count in TallyOf(KINDS[type(item)] for item in stored).items():
            self.items_stored.labels(kind=kind).inc(count)
        for item in stored:
            self._look_closer(item)

    def degraded_counted(self, agents: int, by_reason: Mapping[ReasonCode, int]) -> None:
        """Show how many agents are degraded."""
        self.degraded.set(agents)
        for reason, count in by_reason.items():
            self.degraded_by_reason.labels(reason=reason.value).set(count)

    def removed(self, table: str, rows: int) -> None:
        """Count rows that were removed because of their age."""
        if rows:
            self.rows_removed.labels(table=table).inc(rows)

    def _look_closer(self, item: Item) -> None:
        match item:
            case CheckResult():
                self.check_results.labels(status=item.status.value).inc()
            case Gap():
                self.items_lost.inc(item.count)
            case _:
                pass

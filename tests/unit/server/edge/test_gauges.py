"""Every gauge says how the values of several workers become one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from ct_ops_server.edge.metrics import EdgeMetrics, StoreMetrics
from ct_ops_server.edge.scraping import LARGEST, LATEST, SMALLEST, SUMMED


def test_every_gauge_says_what_the_workers_amount_to() -> None:
    """Another mode shows each worker by itself, with its process id as a label."""
    registry = CollectorRegistry()
    EdgeMetrics(registry)
    StoreMetrics(registry)
    gauges = {each for each in registry._collector_to_names if isinstance(each, Gauge)}
    modes = {SUMMED, LATEST, LARGEST, SMALLEST}
    unclear = [gauge for gauge in gauges if gauge._multiprocess_mode not in modes]

    assert gauges
    assert [] == unclear

"""Every gauge says how the values of several workers become one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from ct_ops_server.edge.metrics import EdgeMetrics, StoreMetrics
from ct_ops_server.edge.scraping import LATEST, SUMMED


def test_every_gauge_is_summed_or_the_latest() -> None:
    """Another mode shows each worker by itself, with its process id as a label."""
    registry = CollectorRegistry()
    EdgeMetrics(registry)
    StoreMetrics(registry)
    gauges = {each for each in registry._collector_to_names if isinstance(each, Gauge)}
    unclear = [gauge for gauge in gauges if gauge._multiprocess_mode not in {SUMMED, LATEST}]

    assert gauges
    assert [] == unclear

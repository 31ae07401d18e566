"""Every metric is explained where operators look."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from ct_ops_server.edge.metrics import EdgeMetrics, StoreMetrics

PAGE = (Path(__file__).parents[3] / "docs" / "server.md").read_text()


def test_every_metric_is_on_the_page_about_the_server() -> None:
    """By its name as it is scraped, whatever its labels."""
    registry = CollectorRegistry()
    EdgeMetrics(registry)
    StoreMetrics(registry)
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()
    }

    assert set() == {name for name in names if name not in PAGE}

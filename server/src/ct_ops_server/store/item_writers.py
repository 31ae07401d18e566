"""The one place that says who stores which item. See ``store.items``."""

from __future__ import annotations

from collections.abc import Mapping

from ct_ops_server.fleet.items import (
    CheckResult,
    Gap,
    Item,
    QueryResult,
    Sample,
    TaskAccepted,
    TaskProgress,
    TaskResult,
)
from ct_ops_server.store.check_results import CheckResults
from ct_ops_server.store.gaps import GapWriter
from ct_ops_server.store.items import ItemWriter
from ct_ops_server.store.queries import QueryResultWriter
from ct_ops_server.store.samples import SERIES_OF_AN_AGENT, SampleWriter
from ct_ops_server.store.task_items import TaskAcceptedWriter, TaskProgressWriter, TaskResultWriter


def item_writers(*, series_of_an_agent: int = SERIES_OF_AN_AGENT) -> Mapping[type[Item], ItemWriter]:
    """Return the writer of each type. Their order is the order in which every group locks tables."""
    return {
        CheckResult: CheckResults(),
        Sample: SampleWriter(series_of_an_agent),
        Gap: GapWriter(),
        QueryResult: QueryResultWriter(),
        TaskAccepted: TaskAcceptedWriter(),
        TaskProgress: TaskProgressWriter(),
        TaskResult: TaskResultWriter(),
    }

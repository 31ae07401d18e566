"""One scrape shows the whole server, also when several workers are it.

Each worker keeps its figures in files of a folder that all of them share, which its parent names in the
environment (prometheus_client's multiprocess mode), and whichever worker is scraped adds them up. What a worker
that has gone counted stays counted. So a figure must be one that can be added up, and a gauge says how:

* ``SUMMED``  each worker's part of a whole: connections, streams. A dead worker's part is no more.
* ``LARGEST``, ``SMALLEST``  the worst of what each worker sees for itself: how far it lags, whether it reaches the database.
* ``LATEST``  the same thing, seen by every worker: what is in the database.

Functions that a gauge would call at a scrape do not work here: the scraped worker could ask only itself.
"""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

SUMMED: Final = "livesum"
LATEST: Final = "mostrecent"
LARGEST: Final = "livemax"
SMALLEST: Final = "livemin"
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def of_all_workers(registry: CollectorRegistry) -> CollectorRegistry:
    """Return what a scrape reads: ``registry`` of a server of one process, else the figures of all workers."""
    if _VARIABLE not in os.environ:
        return registry
    everything = CollectorRegistry()
    MultiProcessCollector(everything)  # type: ignore[no-untyped-call]
    return everything

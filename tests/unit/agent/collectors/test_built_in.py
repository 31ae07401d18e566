"""Every built-in collector, really on this machine, and the table that names them."""

from __future__ import annotations

import sys

import pytest

from ct_ops_agent.catalog import Catalog, contract_fault, runs_here
from ct_ops_agent.collector import AnyCollector
from ct_ops_agent.collector_testing import check_readings
from ct_ops_agent.collectors import BUILT_IN, OFF_BY_DEFAULT, ON_BY_DEFAULT

FROM_OUTSIDE = {"textfile"}
"""Yields what files say, so its samples cannot all be documented."""

MAY_HAVE_NO_DEVICE = {"disk_io", "network"}
"""In a container there may be no disk and no interface of its own."""


def load(name: str) -> type[AnyCollector]:
    return Catalog().load(name)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_entry_of_the_table_keeps_the_contract(name: str) -> None:
    """The same that plug-ins are held to."""
    assert "" == contract_fault(name, load(name))


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_table_and_the_collector_agree_on_whether_it_runs_by_default(name: str) -> None:
    """The table says it so that the daemon need not import the others."""
    assert (name in ON_BY_DEFAULT) == load(name).about.on_by_default
    assert not ON_BY_DEFAULT.keys() & OFF_BY_DEFAULT.keys()


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_a_collector_says_of_itself_is_complete(name: str) -> None:
    """Its page of the documentation is made of it."""
    about = load(name).about

    assert all((about.summary, about.reads, about.cost, about.samples, all(about.samples)))
    assert about.summary.endswith(".")
    assert about.interval >= about.timeout or about.interval.total_seconds() >= 60
    assert bool(about.privilege.without) or not (about.privilege.capabilities or about.privilege.groups)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the built-in collectors read Linux")
@pytest.mark.parametrize("name", sorted(BUILT_IN.keys() - FROM_OUTSIDE))
def test_what_it_yields_here_is_what_it_documents(name: str) -> None:
    """Two looks, since rates need them: names, units and labels as documented, nothing twice, never nothing."""
    kind = load(name)
    assert runs_here(kind.about)
    collector = kind(kind.settings_type())
    list(collector.collect())
    readings = list(collector.collect())

    assert [] == check_readings(kind.about, readings)
    assert readings or name in MAY_HAVE_NO_DEVICE

"""The end of the agent CA is said in time, and not at every look."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from ct_ops_server.authority.life_cycle import Straggler, TrustState
from ct_ops_server.authority.rotation import AuthorityView, Overview
from ct_ops_server.edge.authority_metrics import AuthorityMetrics
from ct_ops_server.fleet.authority_watch import AuthorityWatch
from ct_ops_server.fleet.ports import StoreUnavailableError

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def view(state: TrustState, *, days: float, good: int = 0) -> AuthorityView:
    end = NOW + timedelta(days=days)
    return AuthorityView(f"{state} " * 3, state, NOW, "CN=x", NOW, end, 1, good, good)


def overview(*views: AuthorityView) -> Overview:
    return Overview(3, views, [], 7, [Straggler("w1", "node-1")])


@pytest.mark.parametrize(
    ("days", "said"),
    [([400.0, 181.0], 0), ([179.0, 178.0, 100.0], 1), ([179.0, 89.0, 88.0, 29.0, 3.0], 3), ([-1.0, -2.0], 1)],
)
async def test_the_end_is_said_once_at_each_threshold(
    days: list[float], said: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred and eighty, ninety and thirty days before; with what to do."""
    left = iter(days)

    async def look() -> Overview:
        return overview(view(TrustState.ACTIVE, days=next(left)), view(TrustState.RETIRED, days=1))

    watch = AuthorityWatch(look, observe=lambda *_: None, now=lambda: NOW)
    for _ in days:
        await watch.look()

    assert said == len(caplog.records)
    assert all("ca rotate" in each.getMessage() for each in caplog.records)
    assert all(each.levelno == logging.ERROR for each in caplog.records)


async def test_an_outage_of_the_database_ends_nothing() -> None:
    """It looks again."""
    looks = asyncio.Event()
    answers: Iterator[Exception | Overview] = iter(
        [StoreUnavailableError("gone"), overview(view(TrustState.ACTIVE, days=400))]
    )

    async def look() -> Overview:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = AuthorityWatch(look, observe=lambda *_: looks.set(), now=lambda: NOW, every_s=0)
    running = asyncio.create_task(watch.run())
    try:
        await asyncio.wait_for(looks.wait(), 20)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_metrics_show_how_far_a_rotation_is() -> None:
    """By state, so that a rotation is two lines that cross; -1 is the end of what is not there."""
    registry = CollectorRegistry()
    metrics = AuthorityMetrics(registry)
    views = (view(TrustState.ACTIVE, days=3000, good=5), view(TrustState.OUTGOING, days=90, good=2))
    metrics.looked(overview(*views), NOW)

    def shown(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert (5, 2) == tuple(
        shown("ct_ops_agents_by_agent_ca", state=state) for state in ("active", "outgoing")
    )
    assert [-1, 3000, 90] == [
        shown("ct_ops_agent_ca_days_left", state=state) for state in ("prepared", "active", "outgoing")
    ]
    assert 1 == shown("ct_ops_workers_behind_agent_ca")

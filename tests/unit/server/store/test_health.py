"""What health is decided from: read for one agent, or for all that may be degraded."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import VITALS, new_agent
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.delivery import BatchNumber, Delivery, MalformedItem
from ct_ops_server.fleet.health import HealthDesk, ReasonCode
from ct_ops_server.fleet.items import CollectorState, Gap, Item, Sample
from ct_ops_server.fleet.model import HeartbeatWrite, StreamClosing, StreamOpening
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.sample_tables import collectors
from ct_ops_server.store.schema import agents

HOUR_MS = 3_600_000
AGENTS = ("fine", "silent", "failing", "lossy", "refused", "offline", "skewed")


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Store]:
    """A store with agents that have been connected for a while."""
    async with open_store(database_url) as store:
        await store.presence.renew_lease("w")
        await store.tokens.create_token("t", b"t", TokenTerms("t"), actor="ada")
        for agent in AGENTS:
            await store.enrolment.admit(new_agent(agent, token_id="t"), leaf=None)
            await store.streams.open_stream(StreamOpening(agent, f"key-{agent}", "w", None))
        await store.writer.run(_connect_earlier)
        yield store


async def _connect_earlier(connection: AsyncConnection) -> None:
    await connection.execute(agents.update().values(connected_at=agents.c.connected_at - 5 * HOUR_MS))


async def deliver(
    store: Store, agent_id: str, *items: Item, problem: str | None = None, number: BatchNumber | None = None
) -> None:
    states = None if problem is None else (CollectorState("cpu", 60_000, problem),)
    await store.deliveries.deliver(
        Delivery(agent_id, 1, tuple(enumerate(items)), number=number, collectors=states)
    )


def sample(hours_ago: float) -> Sample:
    return Sample("cpu.used_percent", int(time.time() * 1000 - hours_ago * HOUR_MS), 1.0, "percent")


async def test_the_degraded_are_found_among_the_others(opened: Store) -> None:
    """Each for its own reason; whoever is fine, or offline, is not among them."""
    await deliver(opened, "fine", sample(0), problem="")
    await deliver(opened, "silent", sample(3), problem="")
    await deliver(opened, "failing", sample(0), problem="/proc/stat cannot be read")
    await deliver(opened, "lossy", Gap("samples", 5, 0, 0, "space"))
    malformed = (MalformedItem(0, "sample", "malformed", "cpu"),)
    await opened.deliveries.deliver(Delivery("refused", 1, (), malformed))
    await deliver(opened, "offline", sample(3), problem="cannot be read")
    await opened.streams.close_stream(StreamClosing("offline", 1))
    # Its collector runs since just now, like everybody's here: it is the sample that is old.
    await opened.writer.run(_started_earlier)
    degraded = await HealthDesk(opened.health).degraded()

    assert {
        "silent": [ReasonCode.COLLECTOR_SILENT],
        "failing": [ReasonCode.COLLECTOR_PROBLEM],
        "lossy": [ReasonCode.DATA_LOST],
        "refused": [ReasonCode.DATA_REFUSED],
    } == {agent: [reason.code for reason in why] for agent, why in degraded.items()}


async def _started_earlier(connection: AsyncConnection) -> None:
    await connection.execute(
        collectors.update().values(running_since=collectors.c.running_since - 4 * HOUR_MS)
    )


async def test_a_host_with_a_wrong_clock_is_measured_by_its_own(opened: Store) -> None:
    """Five hours behind, its newest samples are five hours old for us, and new for it."""
    await deliver(opened, "skewed", sample(5), problem="")
    await opened.writer.run(_started_earlier)
    desk = HealthDesk(opened.health)
    before = await desk.degraded()
    await opened.streams.record_heartbeat(
        HeartbeatWrite("skewed", 1, VITALS, None, clock_skew=timedelta(hours=-5))
    )
    after = await desk.degraded()

    assert (["skewed"], []) == (list(before), list(after))


async def test_the_sheet_of_one_agent_has_everything_of_it(opened: Store) -> None:
    """What is fine, too; and whether it numbers what it delivers."""
    await deliver(opened, "fine", sample(0), problem="", number=BatchNumber(bytes(16), 1, bytes(16)))
    numbered = await HealthDesk(opened.health).sheet("fine", online=True)
    without = await HealthDesk(opened.health).sheet("silent", online=True)

    assert numbered is not None
    assert without is not None
    assert ["cpu"] == [each.name for each in numbered.facts.collectors]
    assert timedelta(minutes=1) == numbered.facts.collectors[0].interval
    assert () == numbered.reasons
    assert numbered.facts.delivered_at is not None
    assert without.facts.delivered_at is None
    assert await HealthDesk(opened.health).sheet("nobody", online=True) is None


async def test_an_older_sample_does_not_make_a_collector_look_older(opened: Store) -> None:
    """A late one arrives after what is newer."""
    await deliver(opened, "fine", sample(1), problem="")
    newest = (await sheet_times(opened, "fine"))[0]
    await deliver(opened, "fine", sample(9))

    assert newest == (await sheet_times(opened, "fine"))[0]


async def test_a_report_replaces_the_one_before(opened: Store) -> None:
    """A collector that is not in it does not run; one that never delivered is forgotten."""
    await opened.deliveries.deliver(
        Delivery(
            "fine",
            1,
            ((0, sample(0)),),
            collectors=(CollectorState("cpu", 60_000, ""), CollectorState("disk", 60_000, "odd")),
        )
    )
    await opened.deliveries.deliver(
        Delivery("fine", 1, (), collectors=(CollectorState("memory", 30_000, ""),))
    )
    facts = await opened.health.facts_of("fine")

    assert facts is not None
    assert {"cpu": None, "memory": timedelta(seconds=30)} == {
        each.name: each.interval for each in facts.collectors
    }


async def sheet_times(store: Store, agent_id: str) -> list[object]:
    facts = await store.health.facts_of(agent_id)
    assert facts is not None
    return [each.newest_at for each in facts.collectors]

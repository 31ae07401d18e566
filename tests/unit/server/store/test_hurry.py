"""Of a hurry's rows what the stores in memory do not know: tasks under way. The rest is in ``contract/test_hurry_store.py``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import StoreUnderTest, enrol, open_stream
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.following import AnchorSource, Believed
from ct_ops_server.fleet.hurry import Hurry, HurryState
from ct_ops_server.store.hurry_tables import hurried, hurries
from ct_ops_server.store.opening import Store
from ct_ops_server.store.schema import agents, authorities, leaves
from ct_ops_server.store.work_tables import tasks

TARGET = bytes(range(32))


async def change(store: Store, *statements: Any) -> None:
    """Write past everybody."""

    async def write(connection: AsyncConnection) -> None:
        for statement in statements:
            await connection.execute(statement)

    await store.writer.run(write)


async def later(store: Store, span: timedelta) -> None:
    """Let time pass for the hurry."""
    span_ms = span // timedelta(milliseconds=1)
    await change(
        store,
        hurries.update().values(last_sent_at=hurries.c.last_sent_at - span_ms),
        hurried.update().values(
            picked_at=hurried.c.picked_at - span_ms, pushed_at=hurried.c.pushed_at - span_ms
        ),
    )


async def fleet(store: Store, *names: str) -> dict[str, LiveStream]:
    """Return online agents of an old agent CA, and let another one be the one that signs."""
    tested = cast("StoreUnderTest", store)
    await enrol(tested, *names)
    await store.presence.renew_lease("worker-1")
    row = {"sha256": TARGET, "certificate_pem": "", "state": "active", "recorded_at": 0}
    await change(store, authorities.insert().values(row))
    streams = {name: LiveStream(name, await open_stream(tested, name)) for name in names}
    await store.hurries.start_hurry(actor="ada")
    return streams


async def step_and_claim(store: Store, streams: dict[str, LiveStream]) -> Sequence[str]:
    """Take a step three seconds after the last one; return who was told."""
    await later(store, timedelta(seconds=3))
    await store.hurries.step_hurry()
    return [claim.stream.agent_id for claim in await store.hurries.claim_hurried(list(streams.values()))]


async def comes_back(store: Store, name: str) -> None:
    """Let an agent present a leaf of the new agent CA on a new stream."""
    row = {"serial": name, "agent_id": name, "pem": "", "sha256": name.encode(), "issued_at": 0}
    await change(store, leaves.insert().values(row | {"not_after": 1, "authority_sha256": TARGET}))
    await open_stream(cast("StoreUnderTest", store), name)


def task_row(agent_id: str) -> dict[str, object]:
    """Return a task under way."""
    kinds = {str: "", int: 0, bool: False}
    blank = {each.name: kinds[each.type.python_type] for each in tasks.columns if not each.nullable}
    return blank | {"id": "t", "agent_id": agent_id, "state": "running"}


async def shown(store: Store) -> Hurry:
    """Return how it is."""
    found = await store.hurries.hurry()
    assert found is not None
    return found


async def test_nobody_with_a_task_under_way_and_no_existing_agent_on_windows_is_made_to_renew(
    store: Store,
) -> None:
    """A task would be cut off; on Windows nobody starts an existing agent again. Ours does not exit."""
    streams = await fleet(store, "busy", "windows", "ours")
    await store.anchors.record({"ours": Believed(AnchorSource.LEARNT, frozenset())})
    windows = agents.c.id.in_(["windows", "ours"])
    task = task_row("busy")
    await change(store, agents.update().where(windows).values(os="windows"), tasks.insert().values(task))

    assert await step_and_claim(store, streams) == ["ours"]
    await comes_back(store, "ours")
    assert await step_and_claim(store, streams) == []
    found = await shown(store)
    assert (HurryState.RUNNING, 2, 1) == (found.state, found.remaining, found.left_alone)
    await change(store, tasks.update().values(state="done"))
    assert await step_and_claim(store, streams) == ["busy"]


@pytest.mark.parametrize("anchors", [frozenset[bytes](), frozenset({b"x" * 32})])
async def test_the_share_of_the_fleet_that_believes_a_server_ca(
    store: Store, anchors: frozenset[bytes]
) -> None:
    """Who never reported is an existing agent; of a deleted one nothing is kept."""
    await enrol(cast("StoreUnderTest", store), "a", "b", "c")
    reports = {
        "a": Believed(AnchorSource.LEARNT, anchors),
        "b": Believed(AnchorSource.OPERATOR, frozenset()),
        "gone": Believed(AnchorSource.LEARNT, anchors),
    }
    await store.anchors.record(reports)
    await store.anchors.record(reports)
    found = await store.anchors.following(b"x" * 32)

    assert (3, len(anchors), 1, 1) == (found.agents, found.following, found.existing, found.configured)
    assert found.names[0] == "host-c" or len(found.names) == 3 - len(anchors)

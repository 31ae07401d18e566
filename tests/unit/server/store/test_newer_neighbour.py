"""A row that a newer server on the same database has written, read by this one during a rolling upgrade."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import beat, create_token, new_agent
from ct_ops_server.fleet.model import AgentStatus, StreamOpened, StreamOpening, StreamRefused
from ct_ops_server.store.opening import Store


@pytest.fixture
async def neighbours(store: Store) -> Store:
    """A store with two agents, of which one has a status that this version has no word for."""
    token = await create_token(store.tokens)
    for name in ("plain", "strange"):
        await store.enrolment.admit(new_agent(name, token_id=token), leaf=None)

    async def by_a_newer_server(connection: AsyncConnection) -> None:
        await connection.execute(sa.text("UPDATE agents SET status = 'furloughed' WHERE id = 'strange'"))

    await store.writer.run(by_a_newer_server)
    return store


async def test_a_status_of_a_newer_server_is_counted_and_listed_as_a_quarantine(neighbours: Store) -> None:
    """One such row ends neither the count, whose failure would end the server, nor anybody's list."""
    counted = await neighbours.agents.count_by_status()
    listed = {agent.id: agent.status for agent in await neighbours.agents.list_agents()}

    assert {AgentStatus.ACTIVE: 1, AgentStatus.QUARANTINED: 1} == dict(counted)
    assert {"plain": AgentStatus.ACTIVE, "strange": AgentStatus.QUARANTINED} == listed


async def test_an_agent_with_a_status_of_a_newer_server_is_held_back_and_not_told_to_start_over(
    neighbours: Store,
) -> None:
    """It is refused for a quarantine, which existing agents sit out; its neighbour is served."""
    strange = await neighbours.streams.open_stream(StreamOpening("strange", "key-strange", "w", None))
    plain = await neighbours.streams.open_stream(StreamOpening("plain", "key-plain", "w", None))
    assert isinstance(plain, StreamOpened)

    assert StreamRefused(AgentStatus.QUARANTINED) == strange
    assert await neighbours.streams.agent_status("strange") is AgentStatus.QUARANTINED
    assert await neighbours.streams.record_heartbeat(beat("plain", plain.generation))

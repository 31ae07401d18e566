"""Each process ends what it holds of agents that were put out anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from contract.values import APPLICATION, create_token, new_agent
from ct_ops_server.fleet.endings import EndingWatch
from ct_ops_server.fleet.model import AgentStatus
from fakes.memory_store import MemoryStore

START = datetime(2030, 1, 2, tzinfo=UTC)
ACTIVE = frozenset({AgentStatus.ACTIVE})


@dataclass
class Live:
    """Connections of one process: writes down whose were ended, and why."""

    connected: set[str]
    ended: list[tuple[str, str]] = field(default_factory=list)

    def end(self, agent_id: str, reason: str) -> int:
        if agent_id not in self.connected:
            return 0
        self.ended.append((agent_id, reason))
        return 1

    def end_all(self, reason: str) -> None:
        self.ended.append(("everybody", reason))


@dataclass
class Fleet:
    """A store, one process on it, and the clock."""

    store: MemoryStore
    live: Live
    watch: EndingWatch
    clock: list[datetime]
    observed: list[timedelta]

    async def revoke(self, agent_id: str) -> None:
        await self.store.change_status(
            agent_id, allowed_from=ACTIVE, to=AgentStatus.REVOKED, actor="ada", reason=""
        )


async def fleet(*agent_ids: str, connected: str = "") -> Fleet:
    clock, observed = [START], list[timedelta]()
    store, live = MemoryStore(lambda: clock[0]), Live(set(connected))
    token = await create_token(store)
    for agent_id in agent_ids:
        application = replace(APPLICATION, key_id=f"key-{agent_id}")
        await store.admit(new_agent(agent_id, application=application, token_id=token), leaf=None)
    return Fleet(store, live, EndingWatch(store, live, observe=observed.append), clock, observed)


async def test_whoever_is_connected_here_is_ended_with_the_reason_and_counted() -> None:
    """An agent that is connected elsewhere is the other process's affair."""
    it = await fleet("a", "b", connected="a")
    await it.watch.start()
    await it.revoke("a")
    await it.revoke("b")
    it.clock[0] += timedelta(milliseconds=40)
    await it.watch.catch_up()

    assert [("a", "revoked")] == it.live.ended
    assert [timedelta(milliseconds=40)] == it.observed


async def test_what_was_decided_before_the_start_is_no_news() -> None:
    """Whoever connects later is judged by its row."""
    it = await fleet("a", connected="a")
    await it.revoke("a")
    await it.watch.start()
    await it.watch.catch_up()

    assert [] == it.live.ended


async def test_each_ending_is_done_once() -> None:
    """However often it is caught up with."""
    it = await fleet("a", "b", connected="ab")
    await it.watch.start()
    await it.revoke("a")
    await it.watch.catch_up()
    await it.watch.catch_up()
    await it.revoke("b")
    await it.watch.catch_up()

    assert [("a", "revoked"), ("b", "revoked")] == it.live.ended


async def test_after_a_hole_everybody_reconnects_and_is_judged_anew() -> None:
    """A process that was away for longer than endings are kept cannot know whose it missed."""
    it = await fleet("a", "b", "c", connected="abc")
    await it.watch.start()
    for agent_id in "abc":
        await it.revoke(agent_id)
    del it.store._endings[:2]
    it.store._endings[0] = (3, *it.store._endings[0][1:])
    it.store.last_ending = lambda: _number(3)  # type: ignore[method-assign]  # the numbers go on where they were
    await it.watch.catch_up()

    assert [("everybody", "reconnect"), ("c", "revoked")] == it.live.ended


async def test_after_the_database_went_back_in_time_everybody_reconnects() -> None:
    """A restored backup: fewer endings than were seen."""
    it = await fleet("a", "b", connected="ab")
    await it.revoke("a")
    await it.watch.start()
    it.store._endings.clear()
    await it.watch.catch_up()
    await it.revoke("b")
    await it.watch.catch_up()

    assert [("everybody", "reconnect"), ("b", "revoked")] == it.live.ended


async def _number(value: int) -> int:
    return value

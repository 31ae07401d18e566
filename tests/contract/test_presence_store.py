"""What ``fleet.ports.PresenceStore`` promises: nobody is online by a worker that is gone."""

from __future__ import annotations

from datetime import timedelta

from contract.values import StoreUnderTest, beat, enrol, open_stream

TIMEOUT = timedelta(seconds=15)
STALE = timedelta(seconds=16)


async def online(store: StoreUnderTest) -> list[str]:
    return [agent.id for agent in await store.agents.list_agents() if agent.online]


async def test_a_store_that_no_server_runs_on_shows_nobody_online(store: StoreUnderTest) -> None:
    """The flag of a stream counts only while some worker lives."""
    await enrol(store, "a")
    await open_stream(store, "a")

    assert [] == await online(store)
    await store.presence.renew_lease("worker-1")
    assert ["a"] == await online(store)


async def test_after_a_crash_nobody_is_online_once_the_lease_is_stale(store: StoreUnderTest) -> None:
    """A stale lease is as good as none, before any sweep."""
    await enrol(store, "a")
    await store.presence.renew_lease("worker-1")
    await open_stream(store, "a")
    await store.age_lease("worker-1", STALE)

    assert [] == await online(store)


async def test_the_sweep_ends_the_presence_of_dead_workers_agents_only(store: StoreUnderTest) -> None:
    """Agents of a worker that renews its lease are left alone."""
    await enrol(store, "a", "b", "c")
    for worker, agents in {"dead": "ab", "alive": "c"}.items():
        await store.presence.renew_lease(worker)
        for agent in agents:
            await open_stream(store, agent, worker)
    await store.age_lease("dead", STALE)
    gone = await store.presence.sweep(lease_timeout=TIMEOUT)

    assert ["a", "b"] == gone
    assert ["c"] == await online(store)
    assert [] == await store.presence.sweep(lease_timeout=TIMEOUT)


async def test_the_sweep_spares_an_agent_that_another_worker_has_taken_over(store: StoreUnderTest) -> None:
    """An agent belongs to the worker of its youngest stream."""
    await enrol(store, "a")
    for worker in ("dead", "alive"):
        await store.presence.renew_lease(worker)
        await open_stream(store, "a", worker)
    await store.age_lease("dead", STALE)

    assert [] == await store.presence.sweep(lease_timeout=TIMEOUT)
    assert ["a"] == await online(store)


async def test_a_worker_that_was_only_slow_gets_its_agents_back(store: StoreUnderTest) -> None:
    """The next heartbeat of a stream that is still current undoes a sweep."""
    await enrol(store, "a")
    for worker in ("slow", "other"):
        await store.presence.renew_lease(worker)
    generation = await open_stream(store, "a", "slow")
    await store.age_lease("slow", STALE)
    await store.presence.sweep(lease_timeout=TIMEOUT)
    await store.presence.renew_lease("slow")
    await store.streams.record_heartbeat(beat("a", generation))

    assert ["a"] == await online(store)
    assert [] == await store.presence.sweep(lease_timeout=TIMEOUT)


async def test_an_orderly_shutdown_makes_the_workers_agents_offline_at_once(store: StoreUnderTest) -> None:
    """Dropping a lease ends the presence of this worker's agents and of no others."""
    await enrol(store, "a", "b")
    for worker, agent in {"leaving": "a", "staying": "b"}.items():
        await store.presence.renew_lease(worker)
        await open_stream(store, agent, worker)
    await store.presence.drop_lease("leaving")

    assert ["b"] == await online(store)


async def test_a_lease_that_is_renewed_stays_young(store: StoreUnderTest) -> None:
    """Renewing makes a stale lease good again."""
    await enrol(store, "a")
    await store.presence.renew_lease("worker-1")
    await open_stream(store, "a")
    await store.age_lease("worker-1", STALE)
    await store.presence.renew_lease("worker-1")

    assert [] == await store.presence.sweep(lease_timeout=TIMEOUT)
    assert ["a"] == await online(store)


async def test_dropping_a_lease_that_never_was_does_nothing(store: StoreUnderTest) -> None:
    """A worker may stop before it ever started."""
    await store.presence.drop_lease("nobody")

    assert [] == await store.presence.sweep(lease_timeout=TIMEOUT)

"""Which hosts a load test may take back, and what becomes of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contract.values import APPLICATION, create_token, new_agent
from ct_ops_server.fleet.load_test_hosts import LONGEST_PREFIX, Deleted, LoadTestHosts, PrefixError
from ct_ops_server.fleet.ports import StoreUnavailableError
from fakes.memory_store import MemoryStore


class Store(MemoryStore):
    """A store that cannot delete some agents."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck: set[str] = set()

    async def delete_agent(self, agent_id: str, *, actor: str, reason: str) -> bool:
        """Delete it, unless it is stuck."""
        if agent_id in self.stuck:
            raise StoreUnavailableError("the database is away")
        return await super().delete_agent(agent_id, actor=actor, reason=reason)


async def fleet(*hostnames: str) -> Store:
    """Return a store with an agent on each host, whose id is its hostname."""
    store = Store()
    token = await create_token(store)
    for hostname in hostnames:
        application = replace(APPLICATION, key_id=f"key-{hostname}", hostname=hostname)
        await store.admit(new_agent(hostname, application=application, token_id=token), leaf=None)
    return store


async def left(store: Store) -> list[str]:
    """Return whoever is still there."""
    return [agent.hostname for agent in await store.list_agents()]


async def test_only_hosts_with_the_prefix_are_deleted_and_their_connections_end() -> None:
    """With a tombstone that says whose doing it was, and a hint for every worker's connections."""
    store, hints = await fleet("loadtest-a-1", "loadtest-a-2", "loadtest-b-1", "web"), list[str]()
    done = await LoadTestHosts(store, hint=hints.append).delete("loadtest-a-")

    assert Deleted(2, []) == done
    assert ["loadtest-b-1", "web"] == await left(store)
    assert ["endings"] == hints
    assert {"load test"} == {agent.actor for agent in await store.deleted_agents()}
    assert {"unknown_agent"} == {ending.reason for ending in await store.endings_after(0)}


async def test_deleting_again_deletes_nothing() -> None:
    """A cleanup that was cut off is simply repeated."""
    store, hints = await fleet("loadtest-a-1"), list[str]()
    desk = LoadTestHosts(store, hint=hints.append)

    assert [1, 0] == [(await desk.delete("loadtest-")).deleted for _ in range(2)]
    assert ["endings"] == hints


async def test_a_host_that_cannot_be_deleted_is_named_and_stops_no_other() -> None:
    """With its hostname and the reason."""
    store = await fleet("loadtest-1", "loadtest-2", "loadtest-3")
    store.stuck = {"loadtest-2"}
    done = await LoadTestHosts(store, hint=list[str]().append).delete("loadtest-")

    assert Deleted(2, ["loadtest-2: the database is away"]) == done
    assert ["loadtest-2"] == await left(store)


@pytest.mark.parametrize(
    "prefix", ["", "l", "loadtest", "web", "%", " loadtest-", "LOADTEST-", "loadtest-\0", "loadtest-\ud800"]
)
async def test_a_prefix_that_would_reach_other_hosts_is_refused(prefix: str) -> None:
    """Whatever key the caller has: hosts of the organisation are not for load tests to delete."""
    store = await fleet("loadtest-1", "web")
    with pytest.raises(PrefixError, match="hostnamePrefix"):
        await LoadTestHosts(store, hint=list[str]().append).delete(prefix)

    assert ["loadtest-1", "web"] == await left(store)


async def test_a_prefix_has_a_longest_length() -> None:
    """As on existing servers."""
    desk = LoadTestHosts(await fleet(), hint=list[str]().append)
    longest = "loadtest-".ljust(LONGEST_PREFIX, "x")

    assert 0 == (await desk.delete(longest)).deleted
    with pytest.raises(PrefixError, match="1 to 200 characters"):
        await desk.delete(f"{longest}x")

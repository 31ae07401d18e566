"""Who is told which checks, when, and what that costs the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from contract.values import create_token, new_agent
from ct_ops_proto.checks import parse_check_config
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.text_seal import TextSeal
from ct_ops_server.fleet.check_delivery import NO_CHECKS, CheckProvider
from ct_ops_server.fleet.check_model import NewCheck, StoredDefinition
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.fleet.work import CheckDefinition, Work
from fakes.memory_checks import MemoryChecks
from fakes.memory_store import MemoryStore

SEAL = TextSeal(SealingSecret(Path("secret"), b"x" * 32))
OURS = frozenset({"definitions"})
CONFIG = '{"host":"127.0.0.1","port":22}'


class CountingChecks(MemoryChecks):
    """Checks in memory that tell what they were asked."""

    def __init__(self, agents: MemoryStore) -> None:
        super().__init__(agents)
        self.asked: list[str] = []
        self.is_down = False

    async def last_change(self) -> int:
        self.asked.append("last_change")
        return await super().last_change()

    async def agents_changed_after(self, number: int) -> Sequence[str]:
        self.asked.append("changed")
        return await super().agents_changed_after(number)

    async def definitions(self, agent_ids: Sequence[str]) -> Mapping[str, Sequence[StoredDefinition]]:
        if self.is_down:
            raise StoreUnavailableError("the database does not answer")
        if agent_ids:
            self.asked.append(f"definitions of {' '.join(agent_ids)}")
        return await super().definitions(agent_ids)


async def checks_of(*agent_ids: str) -> CountingChecks:
    agents = MemoryStore()
    token = await create_token(agents)
    for agent_id in agent_ids:
        await agents.admit(new_agent(agent_id, token_id=token), leaf=None)
    return CountingChecks(agents)


async def define(
    store: MemoryChecks,
    agent_id: str,
    check_id: str,
    check_type: str = "port",
    *,
    config: str = CONFIG,
    timeout_s: float = 0,
) -> None:
    times = timedelta(seconds=30), timedelta(seconds=timeout_s)
    new = NewCheck(check_id, agent_id, "a check", check_type, config, *times)
    await store.add_check(new, actor="ada")


async def test_an_idle_agent_costs_one_row_however_many_there_are() -> None:
    """Told once, the definitions of a stream are read again only when they changed."""
    store = await checks_of("a", "b")
    await define(store, "a", "c1")
    provider = CheckProvider(store, seal=SEAL)
    streams = [LiveStream("a", 1, OURS), LiveStream("b", 1)]
    first = await provider.due(streams)
    store.asked.clear()
    later = [await provider.due(streams) for _ in range(3)]

    assert {"a", "b"} == {stream.agent_id for stream in first}
    assert [{}, {}, {}] == later
    assert ["last_change"] * 3 == store.asked


async def test_a_change_is_read_for_its_agent_alone() -> None:
    """Also when its stream is busy at that moment: it is told as soon as it is asked for again."""
    store = await checks_of("a", "b")
    provider = CheckProvider(store, seal=SEAL)
    a, b = LiveStream("a", 1, OURS), LiveStream("b", 1, OURS)
    await provider.due([a, b])
    await define(store, "a", "c1")
    store.asked.clear()
    while_busy = await provider.due([b])
    afterwards = await provider.due([a])

    assert ({}, {a: Work(checks=(CheckDefinition("c1", "port", CONFIG, 30),))}) == (while_busy, afterwards)
    assert ["last_change", "changed", "last_change", "definitions of a"] == store.asked


async def test_an_agents_next_stream_is_told_again() -> None:
    """It may be another process by then."""
    store = await checks_of("a")
    await define(store, "a", "c1")
    provider = CheckProvider(store, seal=SEAL)
    await provider.due([LiveStream("a", 1, OURS)])

    assert 1 == len(await provider.due([LiveStream("a", 2, OURS)]))


async def test_a_store_that_did_not_answer_is_asked_again() -> None:
    """Nobody counts as told, nor a change as seen for good."""
    store = await checks_of("a")
    provider = CheckProvider(store, seal=SEAL)
    stream = LiveStream("a", 1, OURS)
    await provider.due([stream])
    await define(store, "a", "c1")
    store.is_down = True
    with pytest.raises(StoreUnavailableError):
        await provider.due([stream])
    store.is_down = False

    assert {stream} == set(await provider.due([stream]))


async def test_a_database_that_went_back_to_a_backup_is_told_from_again() -> None:
    """Its numbers are smaller than those that were seen: nothing that was told counts any more."""
    store = await checks_of("a")
    await define(store, "a", "c1")
    await define(store, "a", "c2")
    provider = CheckProvider(store, seal=SEAL)
    stream = LiveStream("a", 1, OURS)
    await provider.due([stream])
    store._number = 1

    assert {stream} == set(await provider.due([stream]))


async def test_each_kind_of_agent_hears_of_no_checks_in_the_way_it_understands() -> None:
    """Ours: the empty list. An existing one: nothing if it never had any, else the check that stands for none."""
    store = await checks_of("a", "b")
    await define(store, "b", "c1")
    await store.set_enabled("c1", enabled=False, actor="ada")
    ours, never, once = LiveStream("a", 1, OURS), LiveStream("a", 2), LiveStream("b", 1)
    told = {
        stream: (await CheckProvider(store, seal=SEAL).due([stream]))[stream]
        for stream in (ours, never, once)
    }

    assert {ours: Work(checks=()), never: Work(), once: Work(checks=(NO_CHECKS,))} == told


def test_the_check_that_stands_for_none_is_one_that_existing_agents_can_run() -> None:
    """A type they all know, at the longest interval, for a process that nobody starts."""
    config = parse_check_config(NO_CHECKS.check_type, NO_CHECKS.config_json)

    assert {"process_name": "ct-ops-no-checks"} == {"process_name": getattr(config, "process_name", None)}
    assert 3_600 == NO_CHECKS.interval_s


async def test_a_sealed_configuration_is_opened_for_its_agent_only_with_the_right_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server with another secret says which check it cannot hand out, and hands out the others."""
    store = await checks_of("a")
    secret_config = '{"file_path":"/a","format":"pkcs12","password":"hunter2"}'
    await define(store, "a", "c1", "cert_file", config=SEAL.seal(secret_config, bound_to="c1"))
    await define(store, "a", "c2")
    other = TextSeal(SealingSecret(Path("/etc/other"), b"y" * 32))
    stream = LiveStream("a", 1, OURS)
    opened = (await CheckProvider(store, seal=SEAL).due([stream]))[stream]
    with caplog.at_level(logging.ERROR):
        not_opened = (await CheckProvider(store, seal=other).due([stream]))[stream]

    assert opened.checks is not None
    assert not_opened.checks is not None
    assert [secret_config, CONFIG] == [check.config_json for check in opened.checks]
    assert ["c2"] == [check.check_id for check in not_opened.checks]
    assert "c1" in caplog.text
    assert "/etc/other" in caplog.text


async def test_the_timeout_of_a_certificate_stands_in_its_configuration_too() -> None:
    """Existing agents know no other place; it is whole seconds there, at most sixty."""
    store = await checks_of("a")
    stream = LiveStream("a", 1)
    for check_id, timeout_s in {"c1": 0.0, "c2": 2.5, "c3": 120.0}.items():
        config = '{"host":"h","port":443,"server_name":"","timeout_seconds":10}'
        await define(store, "a", check_id, "certificate", config=config, timeout_s=timeout_s)
    work = (await CheckProvider(store, seal=SEAL).due([stream]))[stream]

    assert work.checks is not None
    assert [10, 3, 60] == [
        getattr(parse_check_config("certificate", check.config_json), "timeout_seconds", None)
        for check in work.checks
    ]
    assert [0, 2_500, 120_000] == [check.timeout_ms for check in work.checks]

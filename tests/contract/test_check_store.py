"""What ``fleet.check_ports.CheckStore`` and the item writer of results promise."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from contract.values import StoreUnderTest, enrol
from ct_ops_server.fleet.check_model import (
    MAX_OUTPUT_CHARS,
    MOST_CHECKS,
    NO_CHECKS_ID,
    Check,
    CheckLimitError,
    CheckOwnerMissingError,
    NewCheck,
    StoredDefinition,
)
from ct_ops_server.fleet.items import CheckResult, CheckStatus, Owned
from ct_ops_server.fleet.model import AgentStatus

PASS, FAIL, ERROR = CheckStatus.PASS, CheckStatus.FAIL, CheckStatus.ERROR
CONFIG = '{"host":"127.0.0.1","port":22}'
_MS = timedelta(milliseconds=1)


def new_check(agent_id: str, check_id: str, name: str = "ssh", config: str = CONFIG) -> NewCheck:
    return NewCheck(check_id, agent_id, name, "port", config, timedelta(seconds=30), timedelta(seconds=5))


async def define(store: StoreUnderTest, agent_id: str, *check_ids: str) -> None:
    await asyncio.gather(
        *(store.checks.add_check(new_check(agent_id, check_id), actor="ada") for check_id in check_ids)
    )


def some_time_ago(**ago: float) -> int:
    """Return a time in milliseconds, as an agent says it."""
    return int((datetime.now(UTC) - timedelta(**ago)).timestamp() * 1000)


def result(
    check_id: str, ran_at_ms: int, status: CheckStatus = PASS, output: str = "reachable", duration_ms: int = 7
) -> CheckResult:
    return CheckResult(check_id, status, output, duration_ms, ran_at_ms)


async def deliver(store: StoreUnderTest, agent_id: str, *results: CheckResult) -> list[str | None]:
    return list(await store.deliver_check_results([Owned(agent_id, each) for each in results]))


async def the(store: StoreUnderTest, check_id: str) -> Check:
    (found,) = await store.checks.find_checks(check_id)
    return found


async def test_a_check_reads_back_as_it_was_defined(store: StoreUnderTest) -> None:
    """Enabled, without a state, by the store's clock and with the name of who did it."""
    await enrol(store, "a")
    added = await store.checks.add_check(new_check("a", "c1"), actor="ada")

    assert [added] == await store.checks.find_checks("c1")
    assert [added] == await store.checks.list_checks()
    assert ("host-a", "ssh", "port", CONFIG, True) == (
        added.hostname,
        added.name,
        added.type,
        added.config,
        added.enabled,
    )
    assert (timedelta(seconds=30), timedelta(seconds=5)) == (added.interval, added.timeout)
    assert ("ada", "ada", None) == (added.created_by, added.changed_by, added.state)
    assert abs(datetime.now(UTC) - added.created_at) < timedelta(minutes=1)


async def test_a_configuration_is_in_no_repr(store: StoreUnderTest) -> None:
    """There may be a password in it, and reprs end up in logs."""
    await enrol(store, "a")
    added = await store.checks.add_check(new_check("a", "c1", config='{"password":"hunter2"}'), actor="ada")
    definitions = await store.checks.definitions(["a"])

    assert "hunter2" not in repr([added, definitions, new_check("a", "c1", config="hunter2")])


async def test_a_check_is_named_by_id_then_prefix_then_name(store: StoreUnderTest) -> None:
    """An id wins over those that begin with it, both over a name; a name must be whole."""
    await enrol(store, "a")
    await define(store, "a", "ab", "abc", "abd")
    await store.checks.add_check(new_check("a", "x", name="abc"), actor="ada")
    await store.checks.add_check(new_check("a", "y", name="disk 100%_"), actor="ada")

    async def ids(selector: str) -> list[str]:
        return [check.id for check in await store.checks.find_checks(selector)]

    assert ["ab"] == await ids("ab")
    assert ["abc"] == await ids("abc")
    assert ["ab", "abc", "abd"] == await ids("a")
    assert ["y"] == await ids("disk 100%_")
    assert [[], [], []] == [await ids(name) for name in ("disk", "%", "")]


async def test_checks_are_listed_by_host_and_name(store: StoreUnderTest) -> None:
    """Of one agent or of all."""
    await enrol(store, "a", "b")
    await store.checks.add_check(new_check("b", "1", name="z"), actor="ada")
    await store.checks.add_check(new_check("b", "2", name="B"), actor="ada")
    await store.checks.add_check(new_check("a", "3", name="z"), actor="ada")

    assert ["3", "2", "1"] == [check.id for check in await store.checks.list_checks()]
    assert ["3"] == [check.id for check in await store.checks.list_checks(agent_id="a")]
    assert [] == await store.checks.list_checks(agent_id="nobody")


async def test_an_agent_that_is_not_there_or_revoked_gets_no_check(store: StoreUnderTest) -> None:
    """A pending one does: it may be approved later."""
    await enrol(store, "waiting", status=AgentStatus.PENDING)
    await enrol(store, "gone", status=AgentStatus.REVOKED)
    await define(store, "waiting", "c1")

    for agent_id in ("nobody", "gone"):
        with pytest.raises(CheckOwnerMissingError):
            await define(store, agent_id, "c2")
    assert ["c1"] == [check.id for check in await store.checks.list_checks()]


async def test_an_agent_has_so_many_checks_and_no_more(store: StoreUnderTest) -> None:
    """They travel in one frame: their number and their length have an end."""
    await enrol(store, "a", "b")
    await define(store, "a", *(f"c{number}" for number in range(MOST_CHECKS)))
    with pytest.raises(CheckLimitError, match="200"):
        await define(store, "a", "one more")
    for number in range(8):
        large = new_check("b", f"l{number}", config="x" * 64 * 1024)
        await store.checks.add_check(large, actor="ada")
    with pytest.raises(CheckLimitError, match="characters"):
        await define(store, "b", "one more")

    assert [] == await store.checks.find_checks("one more")


async def test_every_change_has_a_number_and_names_its_agent(store: StoreUnderTest) -> None:
    """A change that changes nothing has none."""
    await enrol(store, "a", "b")
    numbers = [await store.checks.last_change()]
    await define(store, "a", "c1")
    numbers.append(await store.checks.last_change())
    await define(store, "b", "c2")
    numbers.append(await store.checks.last_change())
    assert await store.checks.set_enabled("c1", enabled=False, actor="bob")
    numbers.append(await store.checks.last_change())
    assert await store.checks.remove_check("c1", actor="bob")

    assert sorted(set(numbers)) == numbers
    assert ["b", "a"] == await store.checks.agents_changed_after(numbers[0])
    assert ["a"] == await store.checks.agents_changed_after(numbers[3])
    assert [] == await store.checks.agents_changed_after(await store.checks.last_change())


async def test_changes_of_many_at_once_are_all_found(store: StoreUnderTest) -> None:
    """Numbers have the order of the commits: nobody who reads on from one can miss a change."""
    names = [f"agent{number}" for number in range(8)]
    await enrol(store, *names)
    seen = set[str]()
    last = 0

    async def watch() -> None:
        nonlocal last
        while len(seen) < len(names):
            latest = await store.checks.last_change()
            seen.update(await store.checks.agents_changed_after(last))
            last = latest
            await asyncio.sleep(0)

    await asyncio.gather(watch(), *(define(store, name, f"check of {name}") for name in names))

    assert set(names) == seen


async def test_a_disabled_check_is_no_definition_and_who_did_it_is_known(store: StoreUnderTest) -> None:
    """Doing it twice says so; what is not there cannot be done."""
    await enrol(store, "a")
    await define(store, "a", "c1", "c2")
    done = [await store.checks.set_enabled("c1", enabled=False, actor="bob") for _ in range(2)]
    (left,) = (await store.checks.definitions(["a"]))["a"]

    assert [True, False] == done
    assert StoredDefinition("c2", "port", CONFIG, timedelta(seconds=30), timedelta(seconds=5)) == left
    assert (False, "bob") == ((await the(store, "c1")).enabled, (await the(store, "c1")).changed_by)
    assert await store.checks.set_enabled("c3", enabled=True, actor="bob") is None
    assert await store.checks.set_enabled("c1", enabled=True, actor="bob") is True
    assert ["c1", "c2"] == [each.id for each in (await store.checks.definitions(["a"]))["a"]]


async def test_an_agent_whose_last_check_went_differs_from_one_that_never_had_any(
    store: StoreUnderTest,
) -> None:
    """The one must be told that there is none any more, the other needs to hear nothing."""
    await enrol(store, "a", "b")
    await define(store, "a", "c1")
    await store.checks.remove_check("c1", actor="ada")

    assert {"a": []} == await store.checks.definitions(["a", "b"])
    assert {} == await store.checks.definitions([])


async def test_a_removed_check_goes_with_its_results(store: StoreUnderTest) -> None:
    """There is nothing to remove a second time."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    await deliver(store, "a", result("c1", some_time_ago(seconds=5)))

    assert [True, False] == [await store.checks.remove_check("c1", actor="ada") for _ in range(2)]
    assert ([], []) == (
        await store.checks.find_checks("c1"),
        await store.checks.check_results(agent_id="a", limit=10),
    )


async def test_a_deleted_agents_checks_go_with_it(store: StoreUnderTest) -> None:
    """Results, changes and removed ones too: nothing keeps an agent from being deleted."""
    await enrol(store, "a", "b")
    await define(store, "a", "c1", "c2")
    await define(store, "b", "c3")
    await deliver(store, "a", result("c1", some_time_ago(seconds=5)))
    await store.checks.remove_check("c2", actor="ada")
    assert await store.agents.delete_agent("a", actor="ada", reason="")

    assert ["c3"] == [check.id for check in await store.checks.list_checks()]
    assert ["b"] == await store.checks.agents_changed_after(0)
    assert ["unknown_check"] == await deliver(store, "b", result("c1", some_time_ago(seconds=1)))


async def test_a_result_is_stored_and_becomes_the_state(store: StoreUnderTest) -> None:
    """As it was said, with when it came."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    ran_at = some_time_ago(seconds=5)
    assert [None] == await deliver(store, "a", result("c1", ran_at, FAIL, "no answer\nfor 5 s", 5_000))
    (stored,) = await store.checks.check_results(check_id="c1", limit=10)
    state = (await the(store, "c1")).state

    assert ("a", "c1", "ssh", FAIL, "no answer\nfor 5 s") == (
        stored.agent_id,
        stored.check_id,
        stored.name,
        stored.status,
        stored.output,
    )
    assert (timedelta(seconds=5), ran_at) == (stored.duration, int(stored.ran_at.timestamp() * 1000))
    assert state is not None
    assert (FAIL, stored.ran_at, stored.ran_at) == (state.status, state.since, state.ran_at)
    assert abs(stored.received_at - state.acknowledged_at) < timedelta(seconds=1)


async def test_a_result_that_comes_again_is_no_second_one(store: StoreUnderTest) -> None:
    """Alone, twice in one batch, and with other words: the first one stays."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    ran_at = some_time_ago(seconds=5)
    first, again = result("c1", ran_at), result("c1", ran_at, FAIL, "other words")
    assert [None, None] == await deliver(store, "a", first, again)
    before = (await the(store, "c1")).state
    assert [None] == await deliver(store, "a", again)

    assert ["reachable"] == [each.output for each in await store.checks.check_results(limit=10)]
    assert before == (await the(store, "c1")).state


async def test_another_agents_check_id_is_refused_and_the_others_are_stored(store: StoreUnderTest) -> None:
    """Forged, made up and removed: each has its reason, and none of them stops a batch.

    The check that stands for none is no complaint, and leaves nothing behind.
    """
    await enrol(store, "a", "b")
    await define(store, "a", "c1", "c2")
    await define(store, "b", "c3")
    await store.checks.remove_check("c2", actor="ada")
    ran_at = some_time_ago(seconds=5)
    outcomes = await deliver(
        store,
        "a",
        result("c3", ran_at),
        result("c1", ran_at),
        result("made-up", ran_at),
        result("c2", ran_at),
        result(NO_CHECKS_ID, ran_at),
    )

    assert ["not_yours", None, "unknown_check", "removed_check", None] == outcomes
    assert (await the(store, "c3")).state is None
    assert ["c1"] == [each.check_id for each in await store.checks.check_results(limit=10)]


async def test_results_of_many_agents_are_stored_together(store: StoreUnderTest) -> None:
    """A group holds the batches of many streams."""
    await enrol(store, "a", "b")
    await define(store, "a", "c1")
    await define(store, "b", "c2")
    ran_at = some_time_ago(seconds=5)
    owned = [
        Owned("a", result("c1", ran_at)),
        Owned("b", result("c2", ran_at)),
        Owned("b", result("c1", ran_at)),
    ]

    assert [None, None, "not_yours"] == list(await store.deliver_check_results(owned))
    assert ["c1", "c2"] == [each.check_id for each in await store.checks.check_results(limit=10)]


async def test_a_late_result_never_overwrites_the_newest(store: StoreUnderTest) -> None:
    """It is kept, in its place; the state is that of the newest run, and so is its acknowledgement."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    newest, late = some_time_ago(seconds=5), some_time_ago(hours=5)
    await deliver(store, "a", result("c1", newest, FAIL))
    before = (await the(store, "c1")).state
    await asyncio.sleep(0.005)
    assert [None] == await deliver(store, "a", result("c1", late, PASS))

    assert before == (await the(store, "c1")).state
    assert [FAIL, PASS] == [each.status for each in await store.checks.check_results(check_id="c1", limit=10)]


async def test_a_state_lasts_since_the_first_run_of_its_kind(store: StoreUnderTest) -> None:
    """In whatever batches the runs come, and in whatever order within one."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    at = [some_time_ago(seconds=60 - number) for number in range(6)]
    await deliver(store, "a", result("c1", at[0], PASS))
    await deliver(store, "a", result("c1", at[3], FAIL), result("c1", at[1], PASS), result("c1", at[2], FAIL))
    await deliver(store, "a", result("c1", at[4], FAIL))
    failing = (await the(store, "c1")).state
    await deliver(store, "a", result("c1", at[5], ERROR))
    erring = (await the(store, "c1")).state

    assert failing is not None
    assert erring is not None
    assert (FAIL, at[2], at[4]) == (
        failing.status,
        int(failing.since.timestamp() * 1000),
        int(failing.ran_at.timestamp() * 1000),
    )
    assert (ERROR, erring.ran_at) == (erring.status, erring.since)


async def test_a_result_from_the_future_does_not_stay_the_newest(store: StoreUnderTest) -> None:
    """A clock that was an hour ahead and is put right: the runs after that are newer all the same."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    ahead = some_time_ago(hours=-1)
    await deliver(store, "a", result("c1", ahead, FAIL))
    before = (await the(store, "c1")).state
    await asyncio.sleep(0.005)
    await deliver(store, "a", result("c1", some_time_ago(), PASS))
    state = (await the(store, "c1")).state

    assert before is not None
    assert state is not None
    assert (FAIL, ahead) == (before.status, int(before.ran_at.timestamp() * 1000))
    assert (PASS, before.acknowledged_at < state.acknowledged_at) == (state.status, True)
    assert state.ran_at <= datetime.now(UTC) + timedelta(seconds=5)


async def test_absurd_times_and_durations_are_refused_or_cut(store: StoreUnderTest) -> None:
    """2^63 - 1 fits into the database and is no duration; a run next year was none, nor was one at no time."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    outcomes = await deliver(
        store,
        "a",
        result("c1", some_time_ago(days=-365)),
        result("c1", 2**63 - 1),
        result("c1", 0),
        result("c1", -5),
        result("c1", some_time_ago(seconds=9), duration_ms=2**63 - 1),
        result("c1", some_time_ago(seconds=8), duration_ms=-1),
    )
    stored = await store.checks.check_results(limit=10)

    assert ["from_the_future", "from_the_future", "malformed", "malformed", None, None] == outcomes
    assert [timedelta(0), (2**31 - 1) * _MS] == [each.duration for each in stored]


async def test_ten_megabytes_of_output_are_cut(store: StoreUnderTest) -> None:
    """What is stored has an end, whatever was let through before."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    assert [None] == await deliver(
        store, "a", result("c1", some_time_ago(seconds=5), output="x" * 10_000_000)
    )
    (stored,) = await store.checks.check_results(limit=10)

    assert MAX_OUTPUT_CHARS == len(stored.output)


async def test_results_are_read_newest_first_of_a_check_of_an_agent_and_since(store: StoreUnderTest) -> None:
    """At most so many as were asked for."""
    await enrol(store, "a", "b")
    await define(store, "a", "c1", "c2")
    await define(store, "b", "c3")
    times = {"c1": 10, "c2": 5000, "c3": 20}
    for check_id, seconds in times.items():
        owner = "b" if check_id == "c3" else "a"
        await deliver(store, owner, result(check_id, some_time_ago(seconds=seconds)))

    async def ids(**asked: object) -> list[str]:
        found = await store.checks.check_results(**{"limit": 10} | asked)  # type: ignore[arg-type]
        return [each.check_id for each in found]

    assert ["c1", "c3", "c2"] == await ids()
    assert ["c1", "c2"] == await ids(agent_id="a")
    assert ["c3"] == await ids(check_id="c3")
    assert ["c1", "c3"] == await ids(newer_than=timedelta(hours=1))
    assert ["c1"] == await ids(limit=1)


async def test_only_the_newest_results_of_a_check_are_kept(store: StoreUnderTest) -> None:
    """Pruning leaves alone what has not more than a tenth too many; the state stays as it is."""
    await enrol(store, "a")
    await define(store, "a", "c1", "c2")
    start = some_time_ago(seconds=100)
    await deliver(store, "a", *(result("c1", start + number) for number in range(30)))
    await deliver(store, "a", *(result("c2", start + number) for number in range(11)))
    before = (await the(store, "c1")).state
    gone = [await store.checks.prune_results(keep=10) for _ in range(2)]
    kept = await store.checks.check_results(check_id="c1", limit=100)

    assert [20, 0] == gone
    assert list(range(start + 29, start + 19, -1)) == [int(each.ran_at.timestamp() * 1000) for each in kept]
    assert 11 == len(await store.checks.check_results(check_id="c2", limit=100))
    assert before == (await the(store, "c1")).state


async def test_pruning_goes_on_as_results_come(store: StoreUnderTest) -> None:
    """The count in the check's row stays right, also when results come twice."""
    await enrol(store, "a")
    await define(store, "a", "c1")
    start = some_time_ago(seconds=100)
    for first in range(0, 60, 10):
        runs = [result("c1", start + first + number) for number in range(10)]
        await deliver(store, "a", *runs)
        await deliver(store, "a", *runs)
        await store.checks.prune_results(keep=10)

        assert len(await store.checks.check_results(limit=100)) <= 11 + 10


async def test_freshness_of_enabled_checks_is_known_for_one_agent_and_for_all(store: StoreUnderTest) -> None:
    """From the newest result's acknowledgement, or from the definition when there was none yet."""
    await enrol(store, "a", "b")
    await define(store, "a", "c1", "c2")
    await define(store, "b", "c3")
    await store.checks.set_enabled("c2", enabled=False, actor="ada")
    await deliver(store, "a", result("c1", some_time_ago(seconds=5)))
    of_a = await store.checks.freshness(agent_id="a")
    of_all = await store.checks.freshness()
    check = await the(store, "c1")

    assert ["c1"] == [each.check_id for each in of_a]
    assert ["c1", "c3"] == [each.check_id for each in of_all]
    assert check.state is not None
    assert (check.state.ran_at, check.state.acknowledged_at, check.interval, check.changed_at) == (
        of_a[0].ran_at,
        of_a[0].acknowledged_at,
        of_a[0].interval,
        of_a[0].defined_at,
    )
    assert (None, None) == (of_all[1].ran_at, of_all[1].acknowledged_at)

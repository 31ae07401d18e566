"""The workshop: what it keeps, and what a change of servers means for it."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from check_peers import free_port
from ct_ops_agent.checks.kept import FILE, KeptChecks
from ct_ops_agent.checks.plan import Planned
from ct_ops_agent.work import CheckDefinition, CheckResult, Query, QueryResult, Task, TaskResult, Work
from ct_ops_agent.workshop import Workshop, build_workshop
from work_desk import FakeLink, KeptResults, MovedTime, settle, until

CHECK = CheckDefinition("c1", "port", json.dumps({"host": "127.0.0.1", "port": free_port()}), 60.0)
EXISTING = FakeLink(features=())


@asynccontextmanager
async def working(folder: Path, results: KeptResults, time: MovedTime) -> AsyncIterator[Workshop]:
    """Run a workshop for the length of a block."""
    workshop = build_workshop(folder, results, time.clock, lambda: 0.0)
    running = asyncio.create_task(workshop.run())
    await settle()
    try:
        yield workshop
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture
async def results() -> KeptResults:
    return KeptResults()


@pytest.fixture
def time() -> MovedTime:
    return MovedTime()


def ids_kept(folder: Path) -> list[str]:
    return [planned.definition.check_id for planned in KeptChecks(folder).load()]


async def test_everything_that_is_asked_has_an_answer(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """A check, a query and a task of one frame, really done on this host."""
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(FakeLink())
        workshop.take(Work((CHECK,), (Query("q1", "list_ports"),), Task("t1", "custom_script", "{}", 1)))
        await results.several(3)

    assert {CheckResult, QueryResult, TaskResult} == {type(result) for result in results.kept}


async def test_checks_go_on_after_a_restart_while_the_server_is_away(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """On their grid, not at once; from a file that others cannot read."""
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(FakeLink())
        workshop.take(Work(checks=(CHECK,)))
        await results.several(1)
        await until(lambda: ids_kept(tmp_path) == ["c1"])
    assert 0o600 == stat.S_IMODE((tmp_path / FILE).stat().st_mode)

    async with working(tmp_path, results, time):
        await time.advance(59.0)
        assert 1 == len(results.kept)
        await time.advance(1.0)
        await results.several(2)


async def test_a_frame_that_comes_after_the_end_starts_nothing(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """The stream may end after the workshop; what it brings then nobody would stop."""
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(FakeLink())
    before = asyncio.all_tasks()
    workshop.take(Work((CHECK,), (Query("q1", "list_ports"),), Task("t1", "custom_script", "{}", 1)))

    assert before == asyncio.all_tasks()
    await settle()
    assert [] == results.kept


async def test_a_frame_that_says_nothing_of_checks_changes_nothing(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """Pushed frames say nothing; the empty list says a lot."""
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(FakeLink())
        workshop.take(Work(checks=(CHECK,)))
        await results.several(1)
        workshop.take(Work(cancelled_task_ids=("t9",)))
        await time.advance(60.0)
        await results.several(2)

        workshop.take(Work(checks=()))
        await time.advance(600.0)

    assert 2 == len(results.kept)
    assert [] == ids_kept(tmp_path)


async def test_a_removal_just_before_the_stop_is_kept(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """Else the check would come back with the next start."""
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(FakeLink())
        workshop.take(Work(checks=(CHECK,)))
        await until(lambda: ids_kept(tmp_path) == ["c1"])
        workshop.take(Work(checks=()))

    assert [] == ids_kept(tmp_path)


async def test_an_older_list_is_never_written_after_the_newest(
    tmp_path: Path, results: KeptResults, time: MovedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop comes while a slow disk still writes the list with the check that is removed by now."""
    begun, go_on, save = threading.Event(), threading.Event(), KeptChecks.save

    def save_slowly(kept: KeptChecks, checks: Sequence[Planned]) -> None:
        if checks:
            begun.set()
            go_on.wait(30)
        save(kept, checks)

    monkeypatch.setattr(KeptChecks, "save", save_slowly)
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(FakeLink())
        workshop.take(Work(checks=(CHECK,)))
        await until(begun.is_set)
        workshop.take(Work(checks=()))
        asyncio.get_running_loop().call_later(0.05, go_on.set)

    assert [] == ids_kept(tmp_path)


async def test_checks_survive_a_lost_stream(tmp_path: Path, results: KeptResults, time: MovedTime) -> None:
    """Also with an existing server, whose list stays as it was."""
    async with working(tmp_path, results, time) as workshop:
        for run in range(1, 4):
            workshop.connected(EXISTING)
            workshop.take(Work(checks=(CHECK,)))
            await results.several(run)
            workshop.disconnected()
            await time.advance(60.0)
            await results.several(run + 1)


async def test_what_an_existing_server_asked_for_ends_with_the_process(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """It cannot say that nothing is to run, so nobody could ever stop what was kept."""
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(EXISTING)
        workshop.take(Work(checks=(CHECK,)))
        await results.several(1)

    assert [] == ids_kept(tmp_path)


async def test_checks_of_our_server_end_when_an_existing_one_greets(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """Whether they run since before the start or since the stream before this one."""
    KeptChecks(tmp_path).save([Planned(CHECK, since=time.clock.wall())])
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(EXISTING)
        await time.advance(600.0)
        assert [] == results.kept

        workshop.disconnected()
        workshop.connected(FakeLink())
        workshop.take(Work(checks=(CHECK,)))
        await results.several(1)
        workshop.connected(EXISTING)
        await time.advance(600.0)

    assert 1 == len(results.kept)
    assert [] == ids_kept(tmp_path)


async def test_the_same_list_of_another_kind_of_server_is_kept_from_then_on(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """After the server was replaced by one of ours nothing runs anew, and a restart is survived."""
    async with working(tmp_path, results, time) as workshop:
        workshop.connected(EXISTING)
        workshop.take(Work(checks=(CHECK,)))
        await results.several(1)
        workshop.connected(FakeLink())
        workshop.take(Work(checks=(CHECK,)))
        await until(lambda: ids_kept(tmp_path) == ["c1"])

    assert 1 == len(results.kept)


async def test_a_task_and_its_cancellation_in_one_frame_end_as_cancelled(
    tmp_path: Path, results: KeptResults, time: MovedTime
) -> None:
    """The order of a frame's fields is no order of events."""
    async with working(tmp_path, results, time) as workshop:
        workshop.take(Work(task=Task("t1", "software_inventory", "{}", 1), cancelled_task_ids=("t1",)))
        await results.wait_for(lambda: any(isinstance(result, TaskResult) for result in results.kept))

    (result,) = (result for result in results.kept if isinstance(result, TaskResult))
    assert "cancelled, as the server asked" == result.error


async def test_a_file_that_cannot_be_written_stops_no_check(
    tmp_path: Path, results: KeptResults, time: MovedTime, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs the restart, and the log says so."""
    folder = tmp_path / "gone"
    folder.mkdir()
    async with working(folder, results, time) as workshop:
        folder.rmdir()
        workshop.connected(FakeLink())
        workshop.take(Work(checks=(CHECK,)))
        await results.several(1)
        await until(lambda: "not kept over a restart" in caplog.text)


@pytest.mark.parametrize("content", ["", "[", "{}", '[{"id":1}]', "\x00\x01", "[" * 10_000])
def test_a_damaged_file_is_as_good_as_none(content: str, tmp_path: Path) -> None:
    """The server sends the list with its first frame."""
    (tmp_path / FILE).write_text(content)
    (tmp_path / FILE).chmod(0o600)

    assert () == KeptChecks(tmp_path).load()


def test_lists_too_large_to_be_kept_are_not_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Half a list would be another list."""
    large = [
        Planned(CheckDefinition(f"c{number}", "http", "x" * 60_000, 60.0), since=0.0) for number in range(20)
    ]
    KeptChecks(tmp_path).save(large)

    assert [] == ids_kept(tmp_path)
    assert "too large to be kept" in caplog.text


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every field, and text of any kind."""
    planned = Planned(CheckDefinition("ü", "http", '{"a":"\\u0000💥"}', 60.0, 2.5), since=1.5)
    KeptChecks(tmp_path).save([planned])

    assert (planned,) == KeptChecks(tmp_path).load()

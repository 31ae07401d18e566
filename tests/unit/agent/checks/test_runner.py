"""The runner: what it starts and stops, when, and that nothing holds up anything else."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.kinds import Prepared, UnusableCheckError
from ct_ops_agent.checks.plan import Planned
from ct_ops_agent.checks.runner import CheckRunner
from ct_ops_agent.checks.verdict import Verdict, failed, passed
from ct_ops_agent.clock import SYSTEM_CLOCK
from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.work import CheckDefinition, CheckResult, CheckStatus
from work_desk import KeptResults, MovedTime, settle, until


def check(check_id: str, interval_s: float = 60.0, config: str = "{}") -> CheckDefinition:
    return CheckDefinition(check_id, "fake", config, interval_s)


def fine(_attempt: Attempt) -> Verdict:
    return passed("fine")


class Probes:
    """Stands for the types of checks: by id, a function that blocks as it likes."""

    def __init__(self) -> None:
        self.does: dict[str, Callable[[Attempt], Verdict]] = {}
        self.timeout_s = 5.0
        self.started: Counter[str] = Counter()

    def prepare(self, definition: CheckDefinition) -> Prepared:
        does = self.does.get(definition.check_id, fine)

        def probe(attempt: Attempt) -> Verdict:
            self.started[definition.check_id] += 1
            return does(attempt)

        return Prepared(probe, self.timeout_s, overdue=failed("no answer"))


@pytest.fixture
def probes() -> Probes:
    return Probes()


@pytest.fixture
async def results() -> KeptResults:
    return KeptResults()


@pytest.fixture
def time() -> MovedTime:
    return MovedTime()


@pytest.fixture
async def runner(results: KeptResults, probes: Probes, time: MovedTime) -> AsyncIterator[CheckRunner]:
    running = CheckRunner(results, time.clock, lambda: 0.0, prepare=probes.prepare)
    yield running
    await running.stop()


@pytest.fixture
async def hurried(results: KeptResults, probes: Probes) -> AsyncIterator[CheckRunner]:
    """A runner by the real clock, with two slots."""
    running = CheckRunner(results, SYSTEM_CLOCK, lambda: 0.0, slots=2, prepare=probes.prepare)
    yield running
    await running.stop()


def ids(results: KeptResults) -> list[str]:
    return [each.check_id for each in results.kept if isinstance(each, CheckResult)]


async def test_a_new_check_runs_at_once_and_then_on_its_tick(
    runner: CheckRunner, results: KeptResults, time: MovedTime
) -> None:
    """Its result says when it began, by the wall clock."""
    runner.take([check("a", 60.0)])
    await results.several(1)

    for tick in range(1, 4):
        await time.advance(59.0)
        assert tick == len(results.kept)
        await time.advance(1.0)
        await results.several(tick + 1)

    began = [each.ran_at_ms for each in results.kept if isinstance(each, CheckResult)]
    assert [1_800_000_000_000 + 60_000 * tick for tick in range(4)] == began


async def test_the_wall_clock_may_jump(runner: CheckRunner, results: KeptResults, time: MovedTime) -> None:
    """A year ahead or back, the interval stays."""
    runner.take([check("a", 60.0)])
    await results.several(1)

    time.offset += 365 * 86_400
    await time.advance(59.0)
    assert 1 == len(results.kept)
    time.offset -= 2 * 365 * 86_400
    await time.advance(1.0)

    await results.several(2)


async def test_the_last_check_stops_with_the_empty_list(
    runner: CheckRunner, results: KeptResults, time: MovedTime
) -> None:
    """With existing agents it runs until the agent is restarted."""
    runner.take([check("a")])
    await results.several(1)

    assert runner.take([])
    await time.advance(600.0)

    assert (1, ()) == (len(results.kept), runner.planned)


async def test_what_is_stopped_says_nothing_any_more(
    runner: CheckRunner, results: KeptResults, probes: Probes
) -> None:
    """Also when its probe was at work and ends after that; its connections are cut."""
    begun, ended = threading.Event(), threading.Event()

    def hang(attempt: Attempt) -> Verdict:
        begun.set()
        try:
            while attempt.left():
                ended.wait(0.01)
        except TimeoutError:
            ended.set()
        return passed("too late")

    probes.does["a"] = hang
    runner.take([check("a")])
    await asyncio.to_thread(begun.wait, 10)
    runner.take([])

    assert await asyncio.to_thread(ended.wait, 10)
    await settle()
    assert [] == results.kept


async def test_a_changed_check_runs_at_once_and_an_unchanged_one_does_not(
    runner: CheckRunner, results: KeptResults
) -> None:
    """The list is compared, not started again."""
    runner.take([check("a"), check("b")])
    await results.several(2)

    runner.take([check("a"), check("b", config='{"x":1}')])
    await results.several(3)
    await settle()

    assert {"a": 1, "b": 2} == Counter(ids(results))


async def test_a_hanging_check_delays_nobody(
    hurried: CheckRunner, results: KeptResults, probes: Probes
) -> None:
    """It has its own deadline; the others run beside it."""
    release = threading.Event()
    probes.timeout_s = 0.2
    probes.does["hangs"] = lambda _attempt: passed(str(release.wait(30)))

    hurried.take([check("hangs"), *(check(f"other-{number}") for number in range(5))])
    await results.several(6)
    release.set()

    by_id = {each.check_id: each for each in results.kept if isinstance(each, CheckResult)}
    assert "hangs" == ids(results)[-1]
    assert (CheckStatus.FAIL, "no answer") == (by_id["hangs"].status, by_id["hangs"].output)


async def test_what_hangs_is_not_started_again_beside_itself(
    runner: CheckRunner, results: KeptResults, probes: Probes, time: MovedTime
) -> None:
    """Threads would pile up on a file system that is gone. It says so, and goes on when the thread has ended."""
    release = threading.Event()
    probes.timeout_s = 0.01
    probes.does["a"] = lambda _attempt: passed(str(release.wait(30)))

    runner.take([check("a", 10.0)])
    await results.several(1)
    await time.advance(10.0)
    await results.several(2)
    assert 1 == probes.started["a"]
    release.set()
    await until(lambda: all(thread.name != "check a" for thread in threading.enumerate()))
    await time.advance(10.0)
    await results.several(3)

    assert ["no answer", "hang", "True"] == [
        next(word for word in ("no answer", "hang", "True") if word in each.output)
        for each in results.kept
        if isinstance(each, CheckResult)
    ]


async def test_no_more_run_at_once_than_there_are_slots(
    hurried: CheckRunner, results: KeptResults, probes: Probes
) -> None:
    """A hundred new checks are not a hundred threads."""
    lock, now, most = threading.Lock(), [0], [0]

    def work(_attempt: Attempt) -> Verdict:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.002)
        with lock:
            now[0] -= 1
        return passed("fine")

    checks = [check(f"c{number}") for number in range(40)]
    probes.does = {each.check_id: work for each in checks}
    hurried.take(checks)
    await results.several(40)

    assert most[0] <= 2


async def test_a_check_that_cannot_be_done_is_an_error_with_a_sentence(
    results: KeptResults, time: MovedTime
) -> None:
    """And the others go on."""

    def refuse(definition: CheckDefinition) -> Prepared:
        raise UnusableCheckError(f"cannot do {definition.check_id}")

    runner = CheckRunner(results, time.clock, lambda: 0.0, prepare=refuse)
    runner.take([check("a")])
    (result,) = await results.several(1)
    await runner.stop()

    assert isinstance(result, CheckResult)
    assert (CheckStatus.ERROR, "cannot do a") == (result.status, result.output)


async def test_a_defect_of_ours_is_an_error_and_keeps_its_words_to_itself(
    runner: CheckRunner,
    results: KeptResults,
    probes: Probes,
    caplog: pytest.LogCaptureFixture,
    time: MovedTime,
) -> None:
    """An exception's text may hold a password of the configuration; its place is in the log."""

    def crash(_attempt: Attempt) -> Verdict:
        raise RuntimeError("hunter2")

    probes.does["a"] = crash
    runner.take([check("a", 10.0)])
    await results.several(1)
    await time.advance(10.0)
    (first, _) = await results.several(2)

    assert isinstance(first, CheckResult)
    assert CheckStatus.ERROR == first.status
    assert "RuntimeError" in first.output
    assert "hunter2" not in first.output + caplog.text
    assert "test_runner.py" in caplog.text


@pytest.mark.parametrize("broken", [DataDirectoryError("the disk is full"), RuntimeError("who knows")])
async def test_results_that_cannot_be_kept_do_not_end_the_check(
    runner: CheckRunner,
    results: KeptResults,
    time: MovedTime,
    broken: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The disk may have room again at the next tick."""
    results.broken = broken  # type: ignore[assignment]  # also what no outbox should raise
    runner.take([check("a", 10.0)])
    await until(lambda: "is lost" in caplog.text)

    results.broken = None
    await time.advance(10.0)

    await results.several(1)


async def test_after_a_restart_each_check_waits_for_its_tick(
    runner: CheckRunner, results: KeptResults, time: MovedTime
) -> None:
    """No burst, and no run sooner than its interval: the grid goes on from before."""
    began = time.clock.wall()
    kept = [Planned(check(f"c{number}", 60.0), since=began - 3_600 - number) for number in range(30)]

    runner.resume(kept)
    await time.advance(29.0)
    assert [] == results.kept
    await time.advance(2.0)
    await results.several(1)
    assert ["c29"] == ids(results)
    await time.advance(29.0)

    await results.several(30)
    assert {1} == set(Counter(ids(results)).values())


async def test_a_clock_set_back_over_a_restart_silences_nothing(
    runner: CheckRunner, results: KeptResults, time: MovedTime
) -> None:
    """The grid would otherwise begin in the future."""
    runner.resume([Planned(check("a", 60.0), since=time.clock.wall() + 365 * 86_400)])

    await time.advance(66.0)

    await results.several(1)


async def test_a_list_from_the_server_after_a_restart_changes_only_what_changed(
    runner: CheckRunner, results: KeptResults
) -> None:
    """The first frame brings the whole list again."""
    runner.resume([Planned(check("a"), since=0.0), Planned(check("b"), since=0.0)])

    changed = runner.take([check("a"), check("c")])
    await results.several(1)
    await settle()

    assert changed
    assert ["c"] == ids(results)
    assert not runner.take([check("a"), check("c")])


EVENTS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([5.0, 7.0])), max_size=4),
        st.floats(0.0, 20.0),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
async def test_after_any_history_exactly_the_last_list_runs(
    events: list[list[tuple[str, float]] | float],
) -> None:
    """Lists and waits in any order: no check is lost, doubled or left over."""
    time, results, probes = MovedTime(), KeptResults(), Probes()
    runner = CheckRunner(results, time.clock, lambda: 0.0, prepare=probes.prepare)
    others = asyncio.all_tasks()
    wanted: dict[str, float] = {}
    try:
        for event in events:
            if isinstance(event, list):
                wanted = dict(event)
                runner.take([check(check_id, interval) for check_id, interval in event])
            else:
                await time.advance(event)

        assert wanted == {each.definition.check_id: each.interval_s for each in runner.planned}
        living = (task for task in asyncio.all_tasks() - others if not task.cancelling())
        assert sorted(f"check {check_id}" for check_id in wanted) == sorted(
            task.get_name() for task in living
        )
    finally:
        await runner.stop()

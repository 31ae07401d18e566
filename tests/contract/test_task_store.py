"""What ``fleet.work_ports.TaskStore`` promises: leases, attempts, acceptance, and the first result."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from contract.work_values import OURS, WorkUnderTest, result, task
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.items import TaskAccepted, TaskProgress
from ct_ops_server.fleet.orders import MOST_OPEN_TASKS
from ct_ops_server.fleet.tasks import MAX_OUTPUT_CHARS, MAX_OUTPUT_CHUNKS, TaskState
from ct_ops_server.fleet.work import AskedTask
from ct_ops_server.fleet.work_ports import TooManyOpenError

ASKED = AskedTask("t1", "software_inventory", "{}", 1)


async def given(work: WorkUnderTest, features: frozenset[str] = frozenset()) -> LiveStream:
    """Return the stream of an agent that a task waits for."""
    await work.enrol("a", "b")
    await work.tasks.give(task())
    return await work.stream("a", features)


async def test_a_task_goes_from_a_wish_to_a_result(work: WorkUnderTest) -> None:
    """Nothing runs because the server says so: the agent's first word does it."""
    stream = await given(work)
    assert TaskState.WAITING is (await work.task()).state
    assert ASKED == await work.push(stream)
    assert TaskState.SENT is (await work.task()).state
    assert [None] == await work.say("a", TaskProgress("t1", 0, None, "reading dpkg\n"))
    assert TaskState.RUNNING is (await work.task()).state
    assert [None] == await work.say("a", result())
    done = await work.task()

    assert (TaskState.DONE, 0, '{"packages": 2}', "") == (
        done.state,
        done.exit_code,
        done.result_json,
        done.error,
    )
    assert done.sent_at is not None
    assert done.accepted_at is not None
    assert done.ended_at is not None
    assert ("host-a", "ada", 1) == (done.hostname, done.created_by, done.attempt)


async def test_a_failure_keeps_its_text(work: WorkUnderTest) -> None:
    """The existing server loses it."""
    stream = await given(work)
    await work.push(stream)
    await work.say("a", result(exit_code=-1, error="dpkg-query: permission denied"))
    failed = await work.task()

    assert (TaskState.FAILED, -1, "dpkg-query: permission denied") == (
        failed.state,
        failed.exit_code,
        failed.error,
    )


async def test_a_refusal_says_why(work: WorkUnderTest) -> None:
    """An agent that does not know the type, for instance."""
    stream = await given(work, OURS)
    await work.push(stream)
    await work.say("a", result(attempt=1, exit_code=-1, refused="unsupported_task"))

    assert (TaskState.FAILED, "unsupported_task") == (
        (await work.task()).state,
        (await work.task()).refused,
    )


async def test_an_agent_is_pushed_one_task_at_a_time_the_oldest_first(work: WorkUnderTest) -> None:
    """The next one when the one before is over."""
    stream = await given(work)
    await asyncio.sleep(0.002)
    await work.tasks.give(task("t2"))
    assert ASKED == await work.push(stream)
    assert await work.push(stream) is None
    await work.say("a", result())

    second = await work.push(stream)
    assert second is not None
    assert "t2" == second.task_id


async def test_two_processes_cannot_push_the_same_attempt(work: WorkUnderTest) -> None:
    """Whoever claims it first has it; a fenced stream claims nothing."""
    old = await given(work)
    young = await work.stream("a")
    assert await work.push(old) is None
    found = await asyncio.gather(*(work.push(young) for _ in range(8)))

    assert [ASKED] == [each for each in found if each is not None]


async def test_an_existing_agent_is_not_pushed_again_while_its_lease_lives(work: WorkUnderTest) -> None:
    """It forgets what it was told when its stream ends, while the task runs on."""
    await work.push(await given(work))
    again = await work.stream("a")

    assert await work.push(again) is None
    await work.let_lease_end("t1")
    assert {TaskState.WAITING: 1} == await work.tasks.sweep_tasks()
    assert AskedTask("t1", "software_inventory", "{}", 2) == await work.push(again)


async def test_our_agent_is_pushed_the_same_attempt_again_until_it_accepts(work: WorkUnderTest) -> None:
    """On its next stream, not on the same one: it makes nothing of an attempt twice."""
    stream = await given(work, OURS)
    assert ASKED == await work.push(stream)
    assert await work.push(stream) is None
    second = await work.stream("a", OURS)
    assert ASKED == await work.push(second)
    await work.say("a", TaskAccepted("t1", 1))

    assert await work.push(await work.stream("a", OURS)) is None
    assert 1 == (await work.task()).attempt


async def test_a_sign_of_life_renews_the_lease(work: WorkUnderTest) -> None:
    """A task that goes on talking is never taken away."""
    stream = await given(work)
    await work.push(stream)
    await work.let_lease_end("t1")
    await work.say("a", TaskProgress("t1", 0, None, "still here"))

    assert {} == await work.tasks.sweep_tasks()
    assert TaskState.RUNNING is (await work.task()).state


async def test_three_attempts_and_nobody_knows(work: WorkUnderTest) -> None:
    """A fourth is not made; what the agent says later still counts."""
    stream = await given(work)
    for attempt in (1, 2, 3):
        pushed = await work.push(stream)
        assert pushed is not None
        assert attempt == pushed.attempt
        await work.let_lease_end("t1")
        await work.tasks.sweep_tasks()

    assert TaskState.UNKNOWN is (await work.task()).state
    assert await work.push(stream) is None
    assert [None] == await work.say("a", result())
    assert TaskState.DONE is (await work.task()).state


async def test_an_offline_hosts_task_expires_by_the_databases_clock(work: WorkUnderTest) -> None:
    """And is never pushed after that, not even before the sweep has seen it."""
    stream = await given(work)
    await work.let_time_end("t1")

    assert await work.push(stream) is None
    assert {TaskState.EXPIRED: 1} == await work.tasks.sweep_tasks()
    assert TaskState.EXPIRED is (await work.task()).state
    assert (await work.task()).ended_at is not None


async def test_a_task_that_runs_does_not_expire_but_is_not_begun_again(work: WorkUnderTest) -> None:
    """Its time is one to begin in."""
    stream = await given(work)
    await work.push(stream)
    await work.let_time_end("t1")
    assert {} == await work.tasks.sweep_tasks()
    await work.let_lease_end("t1")

    assert {TaskState.UNKNOWN: 1} == await work.tasks.sweep_tasks()


async def test_the_first_result_wins_whichever_attempt_it_is_of(work: WorkUnderTest) -> None:
    """The late result of attempt 1 ends the task while attempt 2 is on its way."""
    stream = await given(work, OURS)
    await work.push(stream)
    await work.let_lease_end("t1")
    await work.tasks.sweep_tasks()
    await work.push(stream)

    assert [None] == await work.say("a", result(attempt=1))
    assert [None, "task_ended"] == await work.say(
        "a", result(attempt=1), result(attempt=2, exit_code=1, error="late")
    )
    assert (TaskState.DONE, 0, "") == (
        (await work.task()).state,
        (await work.task()).exit_code,
        (await work.task()).error,
    )


async def test_a_forged_result_after_completion_changes_nothing(work: WorkUnderTest) -> None:
    """Nor does what is said then."""
    stream = await given(work, OURS)
    await work.push(stream)
    await work.say("a", result(attempt=1))
    before = await work.task()
    late = TaskProgress("t1", 1, 0, "rewriting history")

    assert ["task_ended"] == await work.say("a", late)
    assert [None] == await work.say("a", result(attempt=1, exit_code=3, error="forged"))
    assert before == await work.task()
    assert "" == (await work.tasks.output("t1", start=0)).text


@pytest.mark.parametrize("task_id", ["t1", "nothing"])
async def test_another_agents_task_is_out_of_reach(work: WorkUnderTest, task_id: str) -> None:
    """Accepting, talking and ending: refused, and not told from a task that does not exist."""
    await work.push(await given(work))
    said = await work.say("b", TaskAccepted(task_id, 0), TaskProgress(task_id, 0, None, "x"), result(task_id))

    assert ["not_yours"] * 3 == said
    assert TaskState.SENT is (await work.task()).state


async def test_a_result_for_an_attempt_that_was_never_pushed_is_refused(work: WorkUnderTest) -> None:
    """A task that waits has no result, and attempt 7 does not exist."""
    stream = await given(work)
    assert ["unknown_attempt"] == await work.say("a", result())
    await work.push(stream)

    assert ["unknown_attempt"] * 2 == await work.say("a", result(attempt=7), TaskAccepted("t1", 2))
    assert TaskState.SENT is (await work.task()).state


async def test_an_agent_that_was_restarted_is_given_the_task_again(work: WorkUnderTest) -> None:
    """Three times, then it is interrupted for good."""
    stream = await given(work, OURS)
    for attempt in (1, 2, 3):
        pushed = await work.push(stream)
        assert pushed is not None
        assert attempt == pushed.attempt
        interrupted = result(attempt=attempt, exit_code=-1, error="restarted", refused="interrupted")
        assert [None, None] == await work.say("a", TaskAccepted("t1", attempt), interrupted)

    assert (TaskState.INTERRUPTED, "restarted") == ((await work.task()).state, (await work.task()).error)


async def test_a_waiting_task_is_cancelled_at_once(work: WorkUnderTest) -> None:
    """Its agent never hears of it."""
    stream = await given(work)
    assert TaskState.WAITING is await work.tasks.cancel_task("t1", actor="bob")

    assert (TaskState.CANCELLED, "bob") == ((await work.task()).state, (await work.task()).cancelled_by)
    assert await work.push(stream) is None
    assert TaskState.CANCELLED is await work.tasks.cancel_task("t1", actor="eve")
    assert "bob" == (await work.task()).cancelled_by
    assert await work.tasks.cancel_task("nothing", actor="eve") is None


async def test_a_running_task_is_cancelled_when_its_agent_has_stopped_it(work: WorkUnderTest) -> None:
    """Every stream of the agent is told, until there is a result or the lease is out."""
    stream = await given(work)
    await work.push(stream)
    await work.tasks.cancel_task("t1", actor="bob")
    due = await work.tasks.due_tasks([stream])

    assert TaskState.CANCELLING is (await work.task()).state
    assert ({}, {stream: ("t1",)}) == (due.to_push, due.to_cancel)
    await work.say("a", result(exit_code=-1, error="cancelled"))
    assert TaskState.CANCELLED is (await work.task()).state
    assert {} == (await work.tasks.due_tasks([stream])).to_cancel


async def test_a_task_that_was_done_before_it_could_be_cancelled_is_done(work: WorkUnderTest) -> None:
    """The race has an honest end."""
    stream = await given(work)
    await work.push(stream)
    await work.tasks.cancel_task("t1", actor="bob")
    await work.say("a", result())

    assert TaskState.DONE is (await work.task()).state


async def test_a_cancelled_task_of_an_agent_that_is_gone_ends_with_its_lease(work: WorkUnderTest) -> None:
    """It does not stay cancelling for ever."""
    await work.push(await given(work))
    await work.tasks.cancel_task("t1", actor="bob")
    await work.let_lease_end("t1")

    assert {TaskState.CANCELLED: 1} == await work.tasks.sweep_tasks()


async def test_what_a_task_says_is_kept_once_and_in_order(work: WorkUnderTest) -> None:
    """By its place in the output; a repeated piece is no second one."""
    stream = await given(work, OURS)
    await work.push(stream)
    first, second = TaskProgress("t1", 1, 0, "0123"), TaskProgress("t1", 1, 4, "45")
    assert [None, None] == await work.say("a", second, first)
    assert [None] == await work.say("a", first)

    assert "012345" == (await work.tasks.output("t1", start=0)).text
    tail = await work.tasks.output("t1", start=3)
    assert ("345", 3, 6) == (tail.text, tail.starts_at, tail.ends_at)
    assert "" == (await work.tasks.output("t1", start=6)).text
    assert 6 == (await work.task()).output_chars


async def test_an_existing_agents_output_is_appended(work: WorkUnderTest) -> None:
    """It does not say where a piece belongs."""
    stream = await given(work)
    await work.push(stream)
    await work.say("a", TaskProgress("t1", 0, None, "one "), TaskProgress("t1", 0, None, "two "))
    await work.say("a", TaskProgress("t1", 0, None, "three"))

    assert "one two three" == (await work.tasks.output("t1", start=0)).text


async def test_a_hole_in_the_output_is_not_hidden(work: WorkUnderTest) -> None:
    """What comes after it is shown when somebody asks from there."""
    stream = await given(work, OURS)
    await work.push(stream)
    await work.say("a", TaskProgress("t1", 1, 0, "begin"), TaskProgress("t1", 1, 10, "end"))

    assert "begin" == (await work.tasks.output("t1", start=0)).text
    rest = await work.tasks.output("t1", start=5)
    assert ("end", 10) == (rest.text, rest.starts_at)


async def test_another_attempts_output_begins_anew(work: WorkUnderTest) -> None:
    """What the attempt before still says is refused."""
    stream = await given(work, OURS)
    await work.push(stream)
    await work.say("a", TaskProgress("t1", 1, 0, "first try"))
    await work.let_lease_end("t1")
    await work.tasks.sweep_tasks()
    await work.push(stream)
    assert ["other_attempt", None] == await work.say(
        "a", TaskProgress("t1", 1, 9, "late"), TaskProgress("t1", 2, 0, "second")
    )

    assert ("second", 2) == (
        (await work.tasks.output("t1", start=0)).text,
        (await work.tasks.output("t1", start=0)).attempt,
    )


async def test_an_agent_that_talks_without_end_is_cut_off(work: WorkUnderTest) -> None:
    """By characters and by pieces; its result counts all the same."""
    stream = await given(work, OURS)
    await work.push(stream)
    long = "x" * (MAX_OUTPUT_CHARS - 3)
    await work.say("a", TaskProgress("t1", 1, 0, long), TaskProgress("t1", 1, len(long), "abcdef"))
    said = await work.say("a", TaskProgress("t1", 1, MAX_OUTPUT_CHARS + 100, "more"))

    assert [None] == said
    assert MAX_OUTPUT_CHARS == (await work.task()).output_chars
    assert (await work.task()).output_is_cut
    assert (await work.tasks.output("t1", start=len(long))).text == "abc"
    assert [None] == await work.say("a", result(attempt=1))


async def test_a_flood_of_small_pieces_is_cut_off(work: WorkUnderTest) -> None:
    """A row for each character would cost more than the text."""
    stream = await given(work, OURS)
    await work.push(stream)
    pieces = [TaskProgress("t1", 1, place, "x") for place in range(MAX_OUTPUT_CHUNKS + 10)]
    await work.say("a", *pieces)

    assert MAX_OUTPUT_CHUNKS == (await work.task()).output_chars
    assert (await work.task()).output_is_cut


async def test_acceptance_output_and_result_may_come_together(work: WorkUnderTest) -> None:
    """After an outage they do, in one batch, whatever their order in it."""
    stream = await given(work, OURS)
    await work.push(stream)
    said = await work.say("a", result(attempt=1), TaskProgress("t1", 1, 0, "done\n"), TaskAccepted("t1", 1))

    assert [None, None, None] == said
    assert TaskState.DONE is (await work.task()).state
    assert "done\n" == (await work.tasks.output("t1", start=0)).text


async def test_tasks_are_listed_youngest_first(work: WorkUnderTest) -> None:
    """Of one agent or of all."""
    await work.enrol("a", "b")
    for number, agent_id in enumerate("aba"):
        await work.tasks.give(task(f"t{number}", agent_id))
        await asyncio.sleep(0.002)

    assert ["t2", "t1", "t0"] == [each.id for each in await work.tasks.list_tasks(agent_id=None, limit=9)]
    assert ["t2"] == [each.id for each in await work.tasks.list_tasks(agent_id="a", limit=1)]


async def test_a_task_is_found_by_a_prefix_of_its_id(work: WorkUnderTest) -> None:
    """An exact id wins over a prefix."""
    await work.enrol("a")
    for name in ("ab", "abc", "b"):
        await work.tasks.give(task(name))

    assert ["ab"] == [each.id for each in await work.tasks.find_tasks("ab")]
    assert ["ab", "abc"] == [each.id for each in await work.tasks.find_tasks("a")]
    assert [] == await work.tasks.find_tasks("")
    assert [] == await work.tasks.find_tasks("x")


async def test_a_sweep_that_finds_nothing_changes_nothing(work: WorkUnderTest) -> None:
    """It is the usual case."""
    await given(work)

    assert {} == await work.tasks.sweep_tasks()
    counted = await work.tasks.count_tasks()
    assert {"cancelling": 0, "running": 0, "sent": 0, "waiting": 1} == counted


async def test_an_agent_that_is_away_collects_no_tasks_without_end(work: WorkUnderTest) -> None:
    """There is a limit for each agent."""
    await work.enrol("a")
    await asyncio.gather(*(work.tasks.give(task(f"t{number:03}")) for number in range(MOST_OPEN_TASKS)))
    with pytest.raises(TooManyOpenError):
        await work.tasks.give(task("one too many"))

    await work.tasks.cancel_task("t000", actor="bob")
    await work.tasks.give(task("there is room again", lifetime=timedelta(minutes=1)))


async def test_a_deleted_agents_tasks_go_with_it(work: WorkUnderTest) -> None:
    """With what they have said."""
    stream = await given(work)
    await work.push(stream)
    await work.say("a", TaskProgress("t1", 0, None, "x"))

    assert await work.agents.delete_agent("a", actor="ada", reason="")
    assert [] == await work.tasks.find_tasks("t1")


async def test_an_age_is_told_with_what_was_waited_for_and_not_with_what_comes_again(
    work: WorkUnderTest,
) -> None:
    """So that the time a push takes can be measured."""
    first = await work.push(await given(work, OURS))
    again = await work.push(await work.stream("a", OURS))

    assert first is not None
    assert again is not None
    assert first.age is not None
    assert timedelta(0) <= first.age < timedelta(minutes=1)
    assert again.age is None


async def test_among_a_thousand_streams_the_one_with_a_task_is_found(work: WorkUnderTest) -> None:
    """And nothing that is due to an agent whose stream is elsewhere."""
    await work.enrol("a", "b")
    mine = await work.stream("a")
    others = [LiveStream(f"other-{number}", 1, frozenset()) for number in range(1_000)]
    assert {} == (await work.tasks.due_tasks([mine, *others])).to_push
    await work.tasks.give(task("t1"))
    await work.tasks.give(task("t2", "b"))

    assert [mine] == list((await work.tasks.due_tasks([mine, *others])).to_push)

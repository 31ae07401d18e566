"""The table of tasks, line by line."""

from __future__ import annotations

import pytest

from ct_ops_server.fleet.tasks import (
    CancelAsked,
    Ended,
    Event,
    Nothing,
    Outcome,
    Pushed,
    PushedAgain,
    SignOfLife,
    Step,
    TaskFacts,
    TaskState,
    TimePassed,
    after,
)

S = TaskState
OVER = (S.DONE, S.FAILED, S.CANCELLED, S.EXPIRED, S.INTERRUPTED)


def facts(
    state: TaskState,
    attempt: int = 1,
    *,
    overdue: bool = False,
    lease_out: bool = False,
    result_attempt: int = 0,
    task_type: str = "software_inventory",
) -> TaskFacts:
    return TaskFacts(task_type, state, attempt, overdue, lease_out, result_attempt)


def done(attempt: int = 1) -> Ended:
    return Ended(attempt, Outcome.DONE)


def failed(attempt: int = 1) -> Ended:
    return Ended(attempt, Outcome.FAILED)


def interrupted(attempt: int = 1) -> Ended:
    return Ended(attempt, Outcome.INTERRUPTED)


@pytest.mark.parametrize(
    ("task", "event", "state"),
    [
        (facts(S.WAITING, 0), Pushed(), S.SENT),
        (facts(S.WAITING, 2), Pushed(), S.SENT),
        (facts(S.SENT), PushedAgain(), S.SENT),
        (facts(S.SENT), SignOfLife(1), S.RUNNING),
        (facts(S.SENT), SignOfLife(0), S.RUNNING),
        (facts(S.RUNNING), SignOfLife(0), S.RUNNING),
        (facts(S.WAITING), SignOfLife(1), S.RUNNING),
        (facts(S.UNKNOWN, 3), SignOfLife(3), S.RUNNING),
        (facts(S.CANCELLING), SignOfLife(1), S.CANCELLING),
        (facts(S.SENT), done(), S.DONE),
        (facts(S.RUNNING), failed(0), S.FAILED),
        (facts(S.RUNNING, 2), done(1), S.DONE),
        (facts(S.WAITING), done(), S.DONE),
        (facts(S.UNKNOWN, 3), failed(2), S.FAILED),
        (facts(S.CANCELLING), done(), S.DONE),
        (facts(S.CANCELLING), failed(), S.CANCELLED),
        (facts(S.CANCELLING), interrupted(), S.CANCELLED),
        (facts(S.RUNNING), interrupted(), S.WAITING),
        (facts(S.RUNNING, 3), interrupted(3), S.INTERRUPTED),
        (facts(S.RUNNING, overdue=True), interrupted(), S.INTERRUPTED),
        (facts(S.RUNNING, task_type="reboot"), interrupted(), S.INTERRUPTED),
        (facts(S.WAITING, 0, overdue=True), TimePassed(), S.EXPIRED),
        (facts(S.WAITING, 1, overdue=True), TimePassed(), S.UNKNOWN),
        (facts(S.SENT, lease_out=True), TimePassed(), S.WAITING),
        (facts(S.RUNNING, 2, lease_out=True), TimePassed(), S.WAITING),
        (facts(S.RUNNING, 3, lease_out=True), TimePassed(), S.UNKNOWN),
        (facts(S.SENT, lease_out=True, overdue=True), TimePassed(), S.UNKNOWN),
        (facts(S.RUNNING, lease_out=True, task_type="reboot"), TimePassed(), S.UNKNOWN),
        (facts(S.CANCELLING, lease_out=True), TimePassed(), S.CANCELLED),
        (facts(S.WAITING, 0), CancelAsked(), S.CANCELLED),
        (facts(S.SENT), CancelAsked(), S.CANCELLING),
        (facts(S.RUNNING), CancelAsked(), S.CANCELLING),
    ],
)
def test_what_follows(task: TaskFacts, event: Event, state: TaskState) -> None:
    """Each line of the table."""
    step = after(task, event)

    assert isinstance(step, Step)
    assert state is step.to


@pytest.mark.parametrize(
    ("task", "event", "reason"),
    [
        (facts(S.WAITING, 0, overdue=True), Pushed(), "not_due"),
        (facts(S.SENT), Pushed(), "not_due"),
        (facts(S.RUNNING), PushedAgain(), "not_due"),
        (facts(S.WAITING, 0), SignOfLife(0), "unknown_attempt"),
        (facts(S.WAITING, 0), done(0), "unknown_attempt"),
        (facts(S.SENT), SignOfLife(2), "unknown_attempt"),
        (facts(S.SENT), done(2), "unknown_attempt"),
        (facts(S.SENT, 2), SignOfLife(1), "other_attempt"),
        (facts(S.RUNNING, 2), interrupted(1), "other_attempt"),
        (facts(S.DONE, result_attempt=1), done(), ""),
        (facts(S.DONE, result_attempt=1), failed(), ""),
        (facts(S.DONE, 2, result_attempt=1), done(2), "task_ended"),
        (facts(S.CANCELLING), CancelAsked(), ""),
        (facts(S.SENT), TimePassed(), "not_due"),
        (facts(S.WAITING, 0), TimePassed(), "not_due"),
        (facts(S.UNKNOWN, lease_out=True, overdue=True), TimePassed(), "not_due"),
        *((facts(state, result_attempt=2), SignOfLife(1), "task_ended") for state in OVER),
        *((facts(state, 2, result_attempt=2), done(1), "task_ended") for state in OVER),
        *((facts(state, lease_out=True, overdue=True), TimePassed(), "not_due") for state in OVER),
        *((facts(state), CancelAsked(), "task_ended") for state in OVER),
        *((facts(state), Pushed(), "not_due") for state in OVER),
    ],
)
def test_what_changes_nothing(task: TaskFacts, event: Event, reason: str) -> None:
    """And what is wrong with it; nothing, when it is known already."""
    assert Nothing(reason) == after(task, event)


def test_a_push_counts_the_attempt_and_begins_the_lease() -> None:
    """A second push of the same one begins it anew and counts nothing."""
    assert Step(S.SENT, 1, leases=True) == after(facts(S.WAITING, 0), Pushed())
    assert Step(S.SENT, 1, leases=True) == after(facts(S.SENT), PushedAgain())


def test_a_sign_of_life_begins_the_lease_anew() -> None:
    """Also while the task is being cancelled."""
    assert Step(S.RUNNING, 2, leases=True) == after(facts(S.RUNNING, 2), SignOfLife(2))
    assert Step(S.CANCELLING, 2, leases=True) == after(facts(S.CANCELLING, 2), SignOfLife(0))


def test_an_attempt_that_was_interrupted_and_comes_again_leaves_no_result() -> None:
    """The result that counts is still to come."""
    assert Step(S.WAITING, 1) == after(facts(S.RUNNING), interrupted())
    assert Step(S.INTERRUPTED, 3, keeps_result=True) == after(facts(S.RUNNING, 3), interrupted(3))

"""What an installation says at the end, and what it ends with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ct_ops_agent.service.outcome import Ending, Look, UnitState, decide, give_up, parse_unit_state, wait
from ct_ops_agent.status.report import Report, State

STARTING = Report(pid=1, version="1", data_dir="/d", state=State.STARTING, since=0, written_at=0)
CONNECTED = replace(
    STARTING,
    state=State.CONNECTED,
    agent_id="abc",
    server="s:9443",
    acknowledged_at=5.0,
    features=("delivery",),
)
PENDING = replace(
    STARTING, state=State.PENDING, agent_id="abc",
    problem="waiting for approval as agent abc: an operator has to approve it on the server",
)  # fmt: skip
REFUSED = replace(
    STARTING, state=State.REFUSED, problem="the enrolment token is used up: create another one on the server"
)
WAITING = replace(STARTING, state=State.WAITING, problem="cannot reach s:9443: connection refused")
RUNS = UnitState()


@pytest.mark.parametrize(
    ("report", "ending", "exit_code", "words"),
    [
        (CONNECTED, Ending.ACTIVE, 0, "this host is agent abc, and s:9443 has acknowledged"),
        (PENDING, Ending.PENDING, 0, "type: ct-ops-server agent approve abc"),
        (REFUSED, Ending.REFUSED, 77, "create another one on the server"),
    ],
)
def test_what_waiting_does_not_change_is_said_at_once(
    report: Report, ending: Ending, exit_code: int, words: str
) -> None:
    """With what to do next."""
    outcome = decide(Look(report, RUNS))

    assert outcome
    assert (ending, exit_code) == (outcome.ending, outcome.exit_code)
    assert words in outcome.text


@pytest.mark.parametrize("report", [None, STARTING, WAITING])
def test_what_may_still_change_is_waited_for(report: Report | None) -> None:
    """A server that cannot be reached now may be reached in a second."""
    assert None is decide(Look(report, RUNS))


@pytest.mark.parametrize(("status", "exit_code"), [(78, 78), (1, 1), (203, 1)])
def test_a_unit_that_has_failed_ends_the_waiting(status: int, exit_code: int) -> None:
    """Nobody reports any more."""
    outcome = decide(Look(None, UnitState("failed", status)))

    assert outcome
    assert (Ending.FAILED, exit_code) == (outcome.ending, outcome.exit_code)
    assert "journalctl -u ct-ops-agent" in outcome.text


def test_when_the_time_is_up_the_last_problem_is_said() -> None:
    """And that the service goes on."""
    outcome = give_up(Look(WAITING, RUNS), 60)

    assert 69 == outcome.exit_code
    assert "within 60 s: cannot reach s:9443" in outcome.text
    assert "keeps trying" in outcome.text


def test_it_is_looked_until_something_is_decided() -> None:
    """Not longer."""
    looks: Iterator[Look] = iter([Look(None, RUNS), Look(STARTING, RUNS), Look(CONNECTED, RUNS)])
    slept: list[float] = []

    assert Ending.ACTIVE is wait(lambda: next(looks), lambda: 0.0, slept.append, 60).ending
    assert 2 == len(slept)


def test_without_patience_it_is_looked_once() -> None:
    """`--wait 0`."""
    assert Ending.UNREACHABLE is wait(lambda: Look(None, RUNS), lambda: 0.0, lambda _s: None, 0).ending


def test_nothing_of_a_server_moves_the_cursor() -> None:
    """Its words are shown on a terminal."""
    outcome = decide(Look(replace(REFUSED, problem="no\x1b[2J"), RUNS))

    assert outcome
    assert "\x1b" not in outcome.text


def test_what_systemd_shows_is_read() -> None:
    """Also when it shows nothing."""
    assert UnitState("failed", 78) == parse_unit_state("ActiveState=failed\nExecMainStatus=78\n")
    assert UnitState("", 0) == parse_unit_state("")

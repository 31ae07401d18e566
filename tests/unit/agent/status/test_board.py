"""The status file follows what happens."""

from dataclasses import replace
from pathlib import Path

import pytest

from ct_ops_agent.control_plane import Route
from ct_ops_agent.conversation_parts import Acknowledgement
from ct_ops_agent.errors import (
    AgentError,
    ApprovalPendingError,
    CredentialRejectedError,
    EnrolmentRefusedError,
    Refusal,
    UnreachableError,
)
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.secret import Secret
from ct_ops_agent.status.board import StatusBoard
from ct_ops_agent.status.place import STATUS_NAME, find_report
from ct_ops_agent.status.report import Report, State

KEYS = KeyPair(bytes(32), bytes(32))
IDENTITY = Identity("agent-1", Secret("a.eyJpYXQiOjEwLCJleHAiOjIwfQ.c"), KEYS, "leaf", "ca", 99)
ROUTE = Route(("server:1", "server:2"), "roots")
NO = Refusal("", "", "")


class Host:
    """A board, its clock and its file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1_000.0
        first = Report(7, "1.0", str(folder), State.STARTING, self.now, self.now)
        self.board = StatusBoard(folder / STATUS_NAME, first, lambda: self.now)

    @property
    def report(self) -> Report:
        found = find_report(self.folder, (self.folder,))
        assert found is not None
        return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A board in a folder."""
    return Host(tmp_path)


def test_a_process_that_just_started_says_so(host: Host) -> None:
    """Before anything else happened."""
    assert State.STARTING == host.report.state


def test_enrolling_names_the_server(host: Host) -> None:
    """Nothing else is known yet."""
    host.board.enrolling(ROUTE)

    assert (State.ENROLLING, "server:1", "") == (host.report.state, host.report.server, host.report.agent_id)


def test_an_acknowledged_heartbeat_tells_everything(host: Host) -> None:
    """Identity, dates, abilities, skew; a problem of before is over."""
    host.board.failed(UnreachableError("away"), 1.0)
    host.now += 1
    host.board.connecting(ROUTE, IDENTITY)
    assert (State.CONNECTING, "away") == (host.report.state, host.report.problem)
    host.now += 1
    host.board.acknowledged(ROUTE, IDENTITY, Acknowledgement(("renewal",), -0.5))

    expected = replace(
        host.report,
        state=State.CONNECTED,
        since=1_002.0,
        acknowledged_at=1_002.0,
        agent_id="agent-1",
        key_id=KEYS.key_id,
        leaf_not_after=99.0,
        agent_token_expires_at=20.0,
        features=("renewal",),
        clock_skew_s=-0.5,
        problem="",
        next_try_at=None,
    )
    assert expected == host.report


def test_a_state_that_lasts_keeps_its_beginning(host: Host) -> None:
    """`since` is the first heartbeat's, `acknowledged_at` the last one's."""
    for _ in range(3):
        host.board.acknowledged(ROUTE, IDENTITY, Acknowledgement((), None))
        host.now += 30

    assert (1_000.0, 1_060.0) == (host.report.since, host.report.acknowledged_at)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (ApprovalPendingError("wait", "agent-1"), State.PENDING),
        (EnrolmentRefusedError("no", NO), State.REFUSED),
        (UnreachableError("away"), State.WAITING),
        (CredentialRejectedError("again", NO), State.WAITING),
    ],
)
def test_each_failure_has_its_state(host: Host, failure: AgentError, expected: State) -> None:
    """With the sentence of the log and the time of the next try."""
    host.board.failed(failure, 60.0)

    assert (expected, str(failure), 1_060.0) == (
        host.report.state,
        host.report.problem,
        host.report.next_try_at,
    )


def test_a_clock_that_is_far_off_is_a_problem_of_a_connected_agent(host: Host) -> None:
    """It works today, and its certificates will be refused tomorrow."""
    host.board.acknowledged(ROUTE, IDENTITY, Acknowledgement((), 7_200.0))

    assert (State.CONNECTED, "this host's clock is 2.0 h ahead of the server's: set it, best by NTP") == (
        host.report.state,
        host.report.problem,
    )


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the agent's work goes on."""
    folder = tmp_path / "gone"
    board = StatusBoard(
        folder / STATUS_NAME, Report(7, "1", str(folder), State.STARTING, 0.0, 0.0), lambda: 0.0
    )
    board.enrolling(ROUTE)

    assert 1 == caplog.text.count("cannot write")

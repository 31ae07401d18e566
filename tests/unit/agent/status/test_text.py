"""The status for a human."""

from dataclasses import replace

import pytest

from ct_ops_agent.status.report import Report, State
from ct_ops_agent.status.text import describe, for_humans
from ct_ops_agent.status.verdict import judge

NOW = 1_000_000.0
REPORT = Report(
    pid=7,
    version="1.0",
    data_dir="/data",
    state=State.CONNECTED,
    since=NOW - 900,
    written_at=NOW - 5,
    hostname="web-1",
    agent_id="agent-1",
    key_id="ab" * 32,
    server="ingest:9443",
    features=("renewal",),
    acknowledged_at=NOW - 5,
    leaf_not_after=NOW + 89 * 86_400,
    agent_token_expires_at=NOW - 60,
    clock_skew_s=0.2,
)


def text_of(report: Report | None, *, alive: bool = True) -> str:
    return describe(report, judge(report, alive=alive, now=NOW), NOW)


def test_a_healthy_agent_in_a_few_lines() -> None:
    """What an operator wants to know, and no more."""
    expected = """\
ct-ops-agent 1.0 on web-1: connected
  agent        agent-1 (key abababababababab)
  server       ingest:9443 (offers renewal)
  heartbeat    acknowledged 5 s ago, every 30 s
  certificate  until 1970-04-11T13:46:40Z (89 days left)
  agent token  expired 60 s ago
  clock        agrees with the server's
  data         /data"""

    assert expected == text_of(REPORT)


def test_an_existing_server_is_named_as_such() -> None:
    """Nothing is acknowledged there but the heartbeat itself."""
    assert "ingest:9443 (existing: send and forget)" in text_of(replace(REPORT, features=()))


def test_an_agent_that_waits_says_when_it_tries_again_and_what_is_wrong() -> None:
    """The problem stands at the end, where the eye rests."""
    waiting = replace(
        REPORT, state=State.WAITING, next_try_at=NOW + 42, problem="cannot reach it", clock_skew_s=-90.0
    )
    text = text_of(waiting)

    assert "web-1: waiting to reconnect" in text
    assert "next try     in 42 s" in text
    assert "clock        90 s behind the server's" in text
    assert text.endswith("\n\ncannot reach it")


def test_a_dead_agent_was_last_seen() -> None:
    """Then there is no next try."""
    text = text_of(replace(REPORT, next_try_at=NOW + 1), alive=False)

    assert "not running" in text
    assert "last seen    5 s ago, connected" in text
    assert "next try" not in text


def test_a_host_where_no_agent_ever_ran() -> None:
    """Two lines: that, and how to start one."""
    assert text_of(None, alive=False).startswith("ct-ops-agent: not running\n\nno agent has reported here")


def test_attack_a_terminal_escape_in_a_hostname_shows_as_question_marks() -> None:
    """Whoever names a host does not get to clear an operator's screen, or to forge a line."""
    evil = "\x1b[2J\x1b]0;owned\x07web\nagent fake"
    text = text_of(replace(REPORT, hostname=evil, agent_id=evil, server=evil, problem=evil, data_dir=evil))

    assert "on ?[2J?]0;owned?web?agent fake: connected" in text
    assert {"\n"} == {character for character in text if not character.isprintable()}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "120 min"), (7_200, "2 h"), (172_800, "2 days")],
)
def test_durations_in_their_largest_sensible_unit(seconds: float, expected: str) -> None:
    """Nobody counts 7,776,000 s in days."""
    assert expected == for_humans(seconds)

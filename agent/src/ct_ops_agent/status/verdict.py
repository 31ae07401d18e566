"""What a report means at the moment somebody asks: a pure decision.

===============================================  =========  ==================
what is known                                    exit code  headline
===============================================  =========  ==================
no report, or its process is gone                3          not running
connected, and acknowledged lately               0          connected
connected, and not acknowledged lately           4          silent
anything else                                    4          the report's state
===============================================  =========  ==================

*Lately* is three intervals, and a minute at least. 78 is the command line's, for a configuration that
does not even say where to look.
"""

from __future__ import annotations

from dataclasses import dataclass

from ct_ops_agent.status.report import Report, State

EXIT_CONNECTED = 0
EXIT_NOT_RUNNING = 3
EXIT_NOT_CONNECTED = 4

_SHORTEST_PATIENCE_S = 60.0
_INTERVALS_OF_PATIENCE = 3
_START_IT = "start it: systemctl start ct-ops-agent, or ct-ops-agent run"


@dataclass(frozen=True)
class Verdict:
    """How the agent is now."""

    exit_code: int
    headline: str
    """Two or three words."""

    problem: str
    """What is wrong and what to do; empty: nothing."""

    @property
    def is_running(self) -> bool:
        """Whether there is a daemon at all."""
        return self.exit_code != EXIT_NOT_RUNNING


def judge(report: Report | None, *, alive: bool, now: float) -> Verdict:
    """Decide.

    Args:
        report: the newest one, if any.
        alive: whether its process lives.
        now: this host's clock, seconds since 1970.
    """
    if report is None:
        return Verdict(EXIT_NOT_RUNNING, "not running", f"no agent has reported here; {_START_IT}")
    if not alive:
        return Verdict(EXIT_NOT_RUNNING, "not running", report.problem or _START_IT)
    if report.state is not State.CONNECTED:
        return Verdict(EXIT_NOT_CONNECTED, report.state.value, report.problem)
    silent_s = now - (report.acknowledged_at or report.since)
    if silent_s > patience_s(report):
        problem = f"no heartbeat was acknowledged for {silent_s:.0f} s; look at the agent's log"
        return Verdict(EXIT_NOT_CONNECTED, "silent", report.problem or problem)
    return Verdict(EXIT_CONNECTED, "connected", report.problem)


def patience_s(report: Report) -> float:
    """Return after how many seconds without an acknowledgement an agent counts as silent."""
    return max(_SHORTEST_PATIENCE_S, _INTERVALS_OF_PATIENCE * report.heartbeat_interval_s)

"""What came of an installation: the first acknowledged heartbeat, or why there is none.

An installer that reports success once a process exists reports it for a wrong token too. So the status file of
the agent that was just started is watched until it says something that waiting does not change:

=================================  ============  =========
what it says                       outcome       exit code
=================================  ============  =========
a heartbeat was acknowledged       active        0
an operator has to approve it      pending       0
the server said no                 refused       77
the unit has failed                failed        1, or 78
nothing of that, time is up        unreachable   69
=================================  ============  =========

*Pending* is 0: the installation did what it can, and the next move is an operator's. The service goes on in every
case but *failed*.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ct_ops_agent.service.layout import NAME
from ct_ops_agent.status.report import Report, State
from ct_ops_agent.status.text import shown

LOOK_EVERY_S = 0.2
_REFUSED, _UNREACHABLE, _FAILED, _CONFIGURATION = 77, 69, 1, 78


class Ending(StrEnum):
    """How it ended."""

    ACTIVE = "active"
    PENDING = "pending"
    REFUSED = "refused"
    FAILED = "failed"
    UNREACHABLE = "not connected yet"


@dataclass(frozen=True)
class Outcome:
    """What is said at the end."""

    ending: Ending
    text: str
    exit_code: int
    offers: tuple[str, ...] = ()
    """Abilities of the server; an existing one has none."""


@dataclass(frozen=True)
class UnitState:
    """What systemd says of the unit."""

    active: str = "active"
    """``active``, ``activating``, ``failed`` …"""

    exit_status: int = 0
    """Of the process that ended last."""


@dataclass(frozen=True)
class Look:
    """What is seen at one moment."""

    report: Report | None
    """Of the agent that was started, not of one before it."""

    unit: UnitState


def wait(
    look: Callable[[], Look], clock: Callable[[], float], sleep: Callable[[float], None], patience_s: float
) -> Outcome:
    """Look until waiting changes nothing any more, or the time is up.

    Args:
        look: at the host.
        clock: monotonic.
        sleep: between two looks.
        patience_s: how long.
    """
    ends = clock() + patience_s
    while True:
        seen = look()
        if outcome := decide(seen):
            return outcome
        if clock() >= ends:
            return give_up(seen, patience_s)
        sleep(LOOK_EVERY_S)


def decide(seen: Look) -> Outcome | None:
    """Return the outcome, ``None`` while it can still change by itself."""
    report, unit = seen.report, seen.unit
    if unit.active == "failed":
        return _failed(unit)
    if report is None:
        return None
    if report.acknowledged_at is not None:
        text = f"active: this host is agent {report.agent_id}, and {report.server} has acknowledged its heartbeat"
        return Outcome(Ending.ACTIVE, shown(text), 0, report.features)
    if report.state is State.PENDING:
        return Outcome(Ending.PENDING, shown(_pending(report)), 0, report.features)
    if report.state is State.REFUSED:
        text = f"refused: {report.problem}\nThe service stays up and asks again; a new token: {NAME} install --token-file FILE"
        return Outcome(Ending.REFUSED, "\n".join(map(shown, text.split("\n"))), _REFUSED)
    return None


def give_up(seen: Look, patience_s: float) -> Outcome:
    """Return what is said when the time is up."""
    said = seen.report.problem if seen.report else ""
    why = said or ("the agent has not said why" if seen.report else "the agent has not reported yet")
    text = f"no heartbeat acknowledged within {patience_s:.0f} s: {why}"
    tail = (
        f"The service is installed and keeps trying; how it is: {NAME} status, its log: journalctl -u {NAME}"
    )
    return Outcome(Ending.UNREACHABLE, f"{shown(text)}\n{tail}", _UNREACHABLE)


def parse_unit_state(properties: str) -> UnitState:
    """Read what ``systemctl show`` prints."""
    found = dict(re.findall(r"^(\w+)=(.*)$", properties, re.MULTILINE))
    status = found.get("ExecMainStatus", "0")
    return UnitState(found.get("ActiveState", ""), int(status) if status.isdecimal() else 0)


def _pending(report: Report) -> str:
    return f"pending: {report.problem}; there, type: ct-ops-server agent approve {report.agent_id}"


def _failed(unit: UnitState) -> Outcome:
    code = _CONFIGURATION if unit.exit_status == _CONFIGURATION else _FAILED
    why = "the configuration cannot work" if code == _CONFIGURATION else f"it ended with {unit.exit_status}"
    text = f"failed: the agent does not stay up ({why}); its log says more: journalctl -u {NAME} -n 20"
    return Outcome(Ending.FAILED, text, code)

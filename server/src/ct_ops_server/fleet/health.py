"""Healthy means delivered: whether a host that is connected is also heard of. Pure.

A host whose heartbeats flow while a collector's data does not looks well on every dashboard and is not. So
the server keeps, for every collector and check, when the newest acknowledged data is of, and calls a
connected host *degraded* when something is missing, lost or refused:

``REASONS`` says when and what to do.

Nothing is missed of a host that connected less than that time ago: it is coming home with it. An agent's
clock may be wrong: the age of its data is measured against its own clock, by the skew that it
measured itself. A host that is not connected is *offline*, which says more. Existing agents report no
collectors and deliver without numbers: nothing can be missing of them, and nothing is promised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from ct_ops_server.fleet.check_model import CheckFreshness
from ct_ops_server.fleet.delivery import RefusedItems, StoredGap

MISSED_INTERVALS = 3
SHORTEST_SILENCE = timedelta(minutes=2)
GAP_COUNTS_FOR = timedelta(hours=1)
REFUSAL_COUNTS_FOR = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class CollectorHealth:
    """A collector of a host, and what it delivered."""

    name: str
    interval: timedelta | None
    """None: it does not run now; its samples are from before."""
    problem: str = ""
    running_since: datetime | None = None
    newest_at: datetime | None = None
    """Of the newest acknowledged sample, by the agent's clock; None: none yet."""
    stored_at: datetime | None = None
    """When its latest samples were stored, by ours."""


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What is known of one connected agent, read at one moment."""

    agent_id: str
    now: datetime
    """The database's clock."""
    clock_skew: timedelta = timedelta(0)
    """The agent's clock minus ours."""
    connected_at: datetime | None = None
    """When its latest stream opened."""
    delivered_at: datetime | None = None
    """When its latest numbered batch was stored; None: it has delivered none."""
    collectors: Sequence[CollectorHealth] = ()
    checks: Sequence[CheckFreshness] = ()
    gaps: Sequence[StoredGap] = ()
    refused: Sequence[RefusedItems] = ()


class ReasonCode(StrEnum):
    """Why a host is degraded, for machines."""

    COLLECTOR_PROBLEM = "collector_problem"
    COLLECTOR_SILENT = "collector_silent"
    CHECK_SILENT = "check_silent"
    DATA_LOST = "data_lost"
    DATA_REFUSED = "data_refused"


REASONS: Mapping[ReasonCode, tuple[str, str]] = {
    ReasonCode.COLLECTOR_PROBLEM: (
        "a collector says that it cannot read what it should",
        "the sentence is the agent's; `ct-ops-agent collect NAME` on the host shows it at once",
    ),
    ReasonCode.COLLECTOR_SILENT: (
        "a running collector has delivered nothing for three of its intervals, at least two minutes",
        "`ct-ops-agent status` on the host: is its outbox growing, or does the collector hang?",
    ),
    ReasonCode.CHECK_SILENT: (
        "the same for the results of a check",
        "`ct-ops-agent status` on the host; a check that hangs is ended by its timeout and says so",
    ),
    ReasonCode.DATA_LOST: (
        "within the last hour the agent reported a gap",
        "`agent show` says how much of what, from when to when, and why; more room: `outbox.max_bytes`",
    ),
    ReasonCode.DATA_REFUSED: (
        "within the last ten minutes items of the agent were refused",
        "`agent show` says which and what that means",
    ),
}
"""When each holds, and what to do."""


def reasons_markdown() -> str:
    """Return the table for the documentation."""
    rows = ["| reason | when | what to do |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| `{code}` | {when} | {do} |" for code, (when, do) in REASONS.items())])


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why a host is degraded."""

    code: ReasonCode
    subject: str
    """The collector, the check, or the kind of data."""
    sentence: str
    """For operators."""


class HealthStore(Protocol):
    """Reads what is known; ``store.health`` implements it."""

    async def facts_of(self, agent_id: str) -> HealthFacts | None:
        """Return everything about one agent, whether it is connected or not; None without an agent."""

    async def suspects(self) -> Sequence[HealthFacts]:
        """Return the facts of every connected agent that may be degraded, as far as they may make it so."""


def reasons(facts: HealthFacts) -> tuple[Reason, ...]:
    """Return why a connected host is degraded; nothing: it is healthy."""
    return (
        *(reason for each in facts.collectors for reason in _of_collector(each, facts)),
        *(reason for each in facts.checks for reason in _of_check(each, facts)),
        *_of_gaps(facts),
        *_of_refusals(facts),
    )


def allowed_silence(interval: timedelta) -> timedelta:
    """Return how old the newest data may be."""
    return max(MISSED_INTERVALS * interval, SHORTEST_SILENCE)


def _of_collector(collector: CollectorHealth, facts: HealthFacts) -> Iterator[Reason]:
    if collector.interval is None:
        return
    if collector.problem:
        sentence = f"collector {collector.name}: {collector.problem}"
        yield Reason(ReasonCode.COLLECTOR_PROBLEM, collector.name, sentence)
    silence = _silence(collector.newest_at, collector.running_since, collector.interval, facts)
    if silence is not None:
        said = _said("samples", collector.newest_at, silence)
        yield Reason(ReasonCode.COLLECTOR_SILENT, collector.name, f"collector {collector.name}: {said}")


def _of_check(check: CheckFreshness, facts: HealthFacts) -> Iterator[Reason]:
    silence = _silence(check.ran_at, check.defined_at, check.interval, facts)
    if silence is not None:
        said = _said("results", check.ran_at, silence)
        yield Reason(ReasonCode.CHECK_SILENT, check.name, f"check {check.name}: {said}")


def _of_gaps(facts: HealthFacts) -> Iterator[Reason]:
    lately = [stored.gap for stored in facts.gaps if facts.now - stored.recorded_at < GAP_COUNTS_FOR]
    for kind in sorted({gap.type for gap in lately}):
        gaps = [gap for gap in lately if gap.type == kind]
        why = ", ".join(sorted({gap.reason for gap in gaps if gap.reason})) or "no reason given"
        lost = sum(gap.count for gap in gaps)
        yield Reason(ReasonCode.DATA_LOST, kind, f"the agent lost {lost} {kind} ({why})")


def _of_refusals(facts: HealthFacts) -> Iterator[Reason]:
    for each in facts.refused:
        if facts.now - each.last_at < REFUSAL_COUNTS_FOR:
            about = f", for example {each.example}" if each.example else ""
            sentence = f"items of kind {each.kind} are refused: {each.reason}{about}"
            yield Reason(ReasonCode.DATA_REFUSED, each.kind, sentence)


def _silence(
    newest_at: datetime | None, expected_since: datetime | None, interval: timedelta, facts: HealthFacts
) -> timedelta | None:
    """Return how long nothing was delivered, when that is too long.

    Whoever connected, and whatever was started or defined, a moment ago gets its time before its data is
    missed, however old that is.
    """
    beginnings = [since for since in (expected_since, facts.connected_at) if since is not None]
    if any(facts.now - since <= allowed_silence(interval) for since in beginnings):
        return None
    if newest_at is None:
        return facts.now - max(beginnings, default=facts.now)
    age = facts.now + facts.clock_skew - newest_at
    return age if age > allowed_silence(interval) else None


def _said(what: str, newest_at: datetime | None, silence: timedelta) -> str:
    if newest_at is None:
        return f"has delivered no {what} since it was started or the host connected, {_age(silence)} ago"
    return f"its newest {what} are {_age(silence)} old"


def _age(duration: timedelta) -> str:
    seconds = int(duration.total_seconds())
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


@dataclass(frozen=True, slots=True)
class HealthSheet:
    """What is known of one agent, and whether it is degraded."""

    facts: HealthFacts
    reasons: tuple[Reason, ...]


class HealthDesk:
    """Where operators see who is degraded, and why."""

    def __init__(self, store: HealthStore) -> None:
        self._store = store

    async def degraded(self) -> Mapping[str, tuple[Reason, ...]]:
        """Return why, by agent, of every connected agent that is degraded."""
        found = {facts.agent_id: reasons(facts) for facts in await self._store.suspects()}
        return {agent_id: why for agent_id, why in found.items() if why}

    async def sheet(self, agent_id: str, *, online: bool) -> HealthSheet | None:
        """Return what is known of one agent; None when there is none. Offline agents are not degraded."""
        facts = await self._store.facts_of(agent_id)
        return None if facts is None else HealthSheet(facts, reasons(facts) if online else ())

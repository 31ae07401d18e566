"""What a run counts, and what it comes to. Pure: events come in, figures go out.

A ``Tally`` is one process's; those of several are merged. Failures are counted by their sentence, of which there are at most
so many: a server that puts an id into each must not fill the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ct_ops_loadtest.histogram import Histogram

PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)
MOST_SENTENCES = 50
OTHERS = "others"
_KIB = 1024


@dataclass
class Tally:
    """Everything one run counts."""

    agents: int = 0
    """How many there are to be."""
    registered: int = 0
    pending: int = 0
    """Registered, and waiting for an operator: a token that does not approve."""
    failed: int = 0
    """Registrations that were refused for good."""
    registering_s: float = 0.0
    """From the start to the last registration."""
    connected: int = 0
    """Streams that are open now."""
    streams: int = 0
    """Streams whose first frame was acknowledged."""
    sent: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    """Heartbeats that were sent and not acknowledged: their stream ended, or the deadline passed."""
    held: int = 0
    """Heartbeats acknowledged after all agents had started."""
    held_s: float = 0.0
    cut: int = 0
    """Streams that a fault of the plan has cut."""
    broken: int = 0
    """Streams that ended otherwise."""
    refused: int = 0
    """Streams refused by the server."""
    put_off: int = 0
    """Times when the server asked to come back later."""
    round_trips: Histogram = field(default_factory=Histogram)
    """Of every acknowledged heartbeat; the first frame of a stream is in ``connecting``."""
    slow_round_trips: Histogram = field(default_factory=Histogram)
    """The same, of agents that the plan makes slow."""
    registering: Histogram = field(default_factory=Histogram)
    connecting: Histogram = field(default_factory=Histogram)
    """From the first attempt's dialling to the first acknowledgement."""
    reconnecting: Histogram = field(default_factory=Histogram)
    """From the end of a stream (of an outage) to the first acknowledgement of the next one."""
    failures: dict[str, int] = field(default_factory=dict)
    work: dict[str, int] = field(default_factory=dict)
    """What was done for the server: results of checks, answers, tasks, packages."""
    cpu_s: float = 0.0
    memory_bytes: int = 0
    """What the agents added to the tool's memory."""

    def failure(self, sentence: str, count: int = 1) -> None:
        """Count a failure."""
        if sentence not in self.failures and len(self.failures) >= MOST_SENTENCES:
            sentence = OTHERS
        self.failures[sentence] = self.failures.get(sentence, 0) + count

    def did(self, what: str, count: int = 1) -> None:
        """Count work."""
        self.work[what] = self.work.get(what, 0) + count

    def merge(self, other: Tally) -> None:
        """Count what another process has counted."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _HISTOGRAMS:
            getattr(self, name).merge(getattr(other, name))
        self.registering_s = max(self.registering_s, other.registering_s)
        self.held_s = max(self.held_s, other.held_s)
        for what, count in other.work.items():
            self.did(what, count)
        for sentence, count in other.failures.items():
            self.failure(sentence, count)

    @property
    def served(self) -> bool:
        """Whether every agent was served from its start to the end."""
        refused = self.failed + self.pending + self.refused + self.broken + self.unanswered
        return not refused and self.registered == self.agents == self.connected

    def figures(self) -> dict[str, Any]:
        """Return the figures: rates per second, times in milliseconds."""
        return {
            "agents": self.registered,
            "connected_at_end": self.connected,
            "registrations_per_s": _rate(self.registered, self.registering_s),
            "registrations": self.registering.figures_ms(PERCENTS),
            "heartbeats": self.held,
            "heartbeats_per_s": _rate(self.held, self.held_s),
            "held_s": round(self.held_s, 1),
            "acknowledged": self.acknowledged,
            "unanswered": self.unanswered,
            **self.round_trips.figures_ms(PERCENTS),
            "slow_agents": {"heartbeats": self.slow_round_trips.count} | self.slow_round_trips.figures_ms(PERCENTS),
            "streams": self.streams,
            "connecting": self.connecting.figures_ms(PERCENTS),
            "reconnects": self.reconnecting.count,
            "reconnecting": self.reconnecting.figures_ms(PERCENTS),
            "streams_cut": self.cut,
            "streams_broken": self.broken,
            "streams_refused": self.refused,
            "put_off": self.put_off,
            "work": dict(sorted(self.work.items())),
            "failures": dict(sorted(self.failures.items())),
            "tool": {
                "cpu_s": round(self.cpu_s, 1),
                "memory_per_agent_kib": round(self.memory_bytes / _KIB / max(1, self.agents), 1),
            },
        }  # fmt: skip


_HISTOGRAMS = ("round_trips", "slow_round_trips", "registering", "connecting", "reconnecting")
_SUMS = (
    "agents", "registered", "pending", "failed", "connected", "streams", "sent", "acknowledged", "unanswered", "held",
    "cut", "broken", "refused", "put_off", "cpu_s", "memory_bytes",
)  # fmt: skip


def live_line(elapsed_s: float, tally: Tally, *, recent_failures: int) -> str:
    """Return the line that is printed while a run goes on."""
    p95_ms = tally.round_trips.percentile_s(95) * 1e3
    return (
        f"[{elapsed_s:4.0f}s] regs: {tally.registered} active / {tally.pending} pend / {tally.failed} fail | "
        f"streams: {tally.connected} | hb: {tally.sent} sent ({tally.unanswered} failed) | "
        f"rtt p95: {p95_ms:.1f} ms | recent errors: {recent_failures}"
    )


def summary(tally: Tally) -> str:
    """Return the summary for people."""
    figures = tally.figures()
    lines = [
        f"agents          {figures['agents']} of {tally.agents} registered, {tally.connected} connected at the end",
        f"registrations   {figures['registrations_per_s']}/s   {_times(figures['registrations'])}",
        f"heartbeats      {figures['heartbeats']} in {figures['held_s']} s, {figures['heartbeats_per_s']}/s",
        f"                {tally.unanswered} not acknowledged",
        f"round trip      {_times(figures)}",
        f"connecting      {_times(figures['connecting'])}",
    ]
    if tally.slow_round_trips.count:
        lines.append(f"slow agents     {_times(figures['slow_agents'])}")
    if tally.reconnecting.count:
        lines.append(f"reconnecting    {tally.reconnecting.count} times   {_times(figures['reconnecting'])}")
    lines.append(
        f"streams         {tally.streams} opened, {tally.cut} cut by the plan, {tally.broken} broken, "
        f"{tally.refused} refused, {tally.put_off} asked to come later"
    )
    if tally.work:
        lines.append(
            "work            " + ", ".join(f"{count} {what}" for what, count in sorted(tally.work.items()))
        )
    tool = figures["tool"]
    lines.append(
        f"this tool       {tool['cpu_s']} s of CPU, {tool['memory_per_agent_kib']} KiB of memory an agent"
    )
    lines += [f"failed          {count} times: {sentence}" for sentence, count in tally.failures.items()]
    return "\n".join(lines)


def _times(figures: Mapping[str, Any]) -> str:
    names = (*(f"p{percent:g}" for percent in PERCENTS), "max")
    return "  ".join(f"{name} {figures[f'{name}_ms']:g}" for name in names) + " ms"


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds else 0.0

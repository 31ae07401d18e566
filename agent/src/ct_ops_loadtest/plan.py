"""What a run does, as values; the same seed makes the same plan. Pure.

Every choice about an agent (when it starts, where in the interval it beats, whether it is slow, which faults hit it) follows from
the seed and the agent's number alone, so it is the same with one process and with four. Times of faults count from the moment
when all agents have started.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

from ct_ops_loadtest.connection import Server
from ct_ops_loadtest.tls import Trust

PREFIX = "loadtest"
"""How every hostname starts: what a server deletes again starts so."""

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class PlanError(ValueError):
    """Something of the plan cannot be done. ``str()`` is a sentence."""


@dataclass(frozen=True)
class Target:
    """The server under test."""

    server: Server
    trust: Trust
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """Connections that are cut at one moment: a storm of reconnects, or an outage that lasts."""

    kind: Literal["storm", "outage"]
    at_s: float
    share: float = 1.0
    """Of all agents."""
    for_s: float = 0.0
    """How long the agents stay away; 0: they come back at once, all together."""


@dataclass(frozen=True, slots=True)
class Slowness:
    """Agents on bad lines."""

    share: float = 0.0
    bytes_per_s: float = 0.0
    """They send no faster; 0: as fast as they can."""
    read_after_s: float = 0.0
    """They leave what the server sends unread for so long."""


@dataclass(frozen=True)
class Plan:
    """One run. Times in seconds."""

    run_id: str
    agents: int = 100
    ramp_s: float = 30.0
    duration_s: float = 300.0
    """After all agents have started; 0: until somebody ends it."""
    interval_s: float = 30.0
    """0: a closed loop, the next frame as soon as the reply is there."""
    fanout: int = 1
    """Agents that share a connection."""
    concurrency: int = 32
    hostname_prefix: str = PREFIX
    seed: int = 1
    simulate_checks: bool = True
    simulate_tasks: bool = True
    simulate_inventory: bool = True
    check_failure_rate: float = 0.05
    metrics_jitter: float = 0.1
    faults: tuple[Fault, ...] = ()
    slow: Slowness = Slowness()

    def hostname(self, number: int) -> str:
        """Return an agent's hostname."""
        return f"{self.hostname_prefix}-{self.run_id}-{number:04d}"

    def starts_s(self, number: int) -> float:
        """Return when an agent starts: evenly over the ramp."""
        return self.ramp_s * number / max(1, self.agents)

    def first_beat_s(self, number: int) -> float:
        """Return how long after its first frame an agent beats: 10,000 agents are a load, no thunderclap."""
        return self.interval_s * share_of(self.seed, "first", number)

    def pause_s(self, number: int, beat: int) -> float:
        """Return an agent's pause before a beat: the interval, up to a tenth more or less."""
        return self.interval_s * (0.9 + 0.2 * share_of(self.seed, "beat", number, beat))

    def is_slow(self, number: int) -> bool:
        """Return whether an agent is a slow one."""
        return share_of(self.seed, "slow", number) < self.slow.share

    def is_hit(self, number: int, fault: int) -> bool:
        """Return whether a fault, by its place, hits an agent."""
        return share_of(self.seed, "fault", fault, number) < self.faults[fault].share

    def timetable(self) -> Iterator[str]:
        """Yield what is going to happen, for people."""
        yield f"seed {self.seed}: {self.agents} agents in {self.ramp_s:g} s, then {self.duration_s:g} s"
        for place, fault in sorted(enumerate(self.faults), key=lambda item: item[1].at_s):
            hit = sum(self.is_hit(number, place) for number in range(self.agents))
            away = f", away for {fault.for_s:g} s" if fault.for_s else ""
            yield f"{fault.kind} at {fault.at_s:g} s: {hit} agents{away}"
        if slow := sum(map(self.is_slow, range(self.agents))):
            yield f"slow: {slow} agents"


def check_plan(plan: Plan) -> None:
    """Raise ``PlanError`` when the plan cannot be carried out."""
    if plan.hostname_prefix != PREFIX and not plan.hostname_prefix.startswith(f"{PREFIX}-"):
        raise PlanError(
            f"the hostname prefix {plan.hostname_prefix!r} does not start with {PREFIX!r}: nobody could take these hosts back"
        )
    if not re.fullmatch(r"[A-Za-z0-9.-]{1,64}", plan.run_id):
        raise PlanError("a run id has at most 64 letters, digits, dots and hyphens")
    for fault in plan.faults:
        if not 0 < fault.share <= 1:
            raise PlanError(f"the share of a fault is more than 0 and at most 1, not {fault.share:g}")
        if plan.duration_s and fault.at_s + fault.for_s >= plan.duration_s:
            raise PlanError(
                f"the {fault.kind} at {fault.at_s:g} s is not over when the run ends after {plan.duration_s:g} s"
            )


def share_of(*what: object) -> float:
    """Return a number from 0 up to 1 that follows from what it is for."""
    digest = blake2b(repr(what).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def seconds(text: str) -> float:
    """Return a duration: ``30s``, ``5m``, ``1h``, ``250ms``, or a number of seconds. Raises ``PlanError``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if found is None:
        raise PlanError(f"{text!r} is no duration: write 30s, 5m, 1h or a number of seconds")
    return float(found[1]) * _UNITS[found[2]]

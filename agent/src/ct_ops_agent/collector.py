"""The contract for authors of collectors: what one is, and what it may do.

A collector reads the host on its own interval and yields samples::

    class UptimeSettings(Settings, frozen=True):
        '''No keys of its own.'''

    class Uptime(Collector[UptimeSettings]):
        about = About(
            name="uptime",
            summary="How long the host has been up.",
            reads="the kernel's boot clock",
            cost="nothing to speak of",
            interval=timedelta(seconds=60),
            samples=(SampleDoc("uptime.seconds", "s", "since boot"),),
        )

        def collect(self) -> Iterator[Reading]:
            yield Sample("uptime.seconds", time.clock_gettime(time.CLOCK_BOOTTIME), "s")

Etiquette:

* One object lives as long as the daemon and is called from one thread at a time, never twice at once.
  It may keep what it needs between calls (a counter's last value) in itself, nowhere else.
* `collect` may block: it runs in a thread of its own under a deadline. What it yields after the
  deadline is dropped.
* The samples' names begin with the collector's name and a dot. Names and units do not change once
  released: they are what people draw and alert on.
* What cannot be read is *said*, not guessed and not zero: yield :class:`Missing` for a part and go on,
  or raise :class:`CollectorError` when nothing can be read at all.
* Sources are arguments with production defaults (``meminfo: Path = Path("/proc/meminfo")``), and parsing
  is a function of text: so a test needs no machine. ``ct_ops_agent.collector_testing`` helps.
* Nothing of the agent is imported but this module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec

__all__ = [
    "About",
    "AgentFacts",
    "AnyCollector",
    "Collector",
    "CollectorCost",
    "CollectorError",
    "Missing",
    "Privilege",
    "Rates",
    "Reading",
    "Sample",
    "SampleDoc",
    "Settings",
    "WantsAgentFacts",
]


class CollectorError(Exception):
    """Nothing can be read this time. The text is one sentence for operators."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A collector's own keys in ``[collectors.NAME]``: derive, one field a key, each with a default.

    Field types are what TOML can say (str, int, float, bool, list of those), with ``msgspec.Meta`` for
    limits and a description, which ends up in the sample configuration::

        paths: Annotated[list[str], Meta(description="Folders to look into.")] = []
    """


SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True, slots=True)
class Sample:
    """One named value at one time."""

    name: str
    """Dotted, lower case, with the unit as the last word: ``memory.available_bytes``."""

    value: float
    unit: str = ""
    """``bytes``, ``s``, ``percent``, ``bytes/s``, ``celsius``; empty for plain numbers and states."""

    labels: Mapping[str, str] = field(default_factory=dict)
    at_unix: float | None = None
    """When it was true; ``None``: at the tick that asked."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A part that could not be read. The rest is still worth having."""

    what: str
    why: str
    """One sentence for operators that says what to do."""


Reading: TypeAlias = Sample | Missing


@dataclass(frozen=True, slots=True)
class Privilege:
    """What an unprivileged, sandboxed agent must be given to read everything."""

    capabilities: tuple[str, ...] = ()
    """Of the kernel: ``CAP_DAC_READ_SEARCH``."""

    groups: tuple[str, ...] = ()
    """Supplementary groups of the host."""

    readable: tuple[str, ...] = ()
    """Paths that the sandbox hides otherwise."""

    without: str = ""
    """What is missing without it, for operators; empty: nothing is needed."""


@dataclass(frozen=True, slots=True)
class SampleDoc:
    """A line of the documentation: one name that a collector yields."""

    name: str
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a collector without making one."""

    name: str
    """As in ``[collectors.NAME]``: a lower-case word, ``_`` between parts."""

    summary: str
    reads: str
    """Files, calls and programs, for the documentation."""

    cost: str
    """What one run takes, for the documentation."""

    interval: timedelta
    samples: tuple[SampleDoc, ...]
    on_by_default: bool = True
    timeout: timedelta = timedelta(seconds=10)
    privilege: Privilege = Privilege()
    platforms: tuple[str, ...] = ("linux",)
    """Prefixes of ``sys.platform`` it works on."""


class Collector(ABC, Generic[SettingsT]):
    """Reads the host. Derive, set `about`, implement `collect`; other arguments of ``__init__`` need defaults.

    ``settings_type`` is the class of its keys: the default takes none.
    """

    about: ClassVar[About]
    settings_type: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: SettingsT) -> None:
        """Keep the settings; read nothing yet."""
        self.settings = settings

    @abstractmethod
    def collect(self) -> Iterator[Reading]:
        """Look at the host now.

        Raises:
            CollectorError: nothing can be read.
        """


class Rates:
    """Counters that only grow, as what they grew by in a second since the run before.

    Samples say rates, not counters: whoever reads one needs no second one, and a reboot is no drop. The first
    look, and one after a counter was set back (a reboot, an interface that was made anew), has no rate.
    """

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}
        self._seen: dict[str, tuple[float, float]] = {}

    def per_second(self, counter: str, total: float, now_s: float) -> float | None:
        """Return the growth in a second; ``None`` when there is nothing to compare with.

        Args:
            counter: which one.
            total: what it says now.
            now_s: of a monotonic clock, in seconds.
        """
        self._seen[counter] = (total, now_s)
        before = self._before.get(counter)
        if before is None or now_s <= before[1] or total < before[0]:
            return None
        return (total - before[0]) / (now_s - before[1])

    def end_of_run(self) -> None:
        """Forget counters that this run has not seen: their devices are gone."""
        self._before, self._seen = self._seen, {}


AnyCollector: TypeAlias = Collector[Any]
"""A collector of whatever settings."""


@dataclass(frozen=True, slots=True)
class CollectorCost:
    """What a collector has cost since the agent started."""

    name: str
    runs: int
    cpu_s: float
    """Of the processor, of all runs."""

    duration_s: float
    """Of the last run, by the clock on the wall."""

    samples: int


class AgentFacts(Protocol):
    """What the agent knows of itself, for the collector that reports it."""

    def costs(self) -> tuple[CollectorCost, ...]:
        """Of every collector that runs."""

    def outbox_bytes(self) -> int:
        """What waits to be delivered."""


@runtime_checkable
class WantsAgentFacts(Protocol):
    """An optional ability: a collector that looks at the agent itself is told whom to ask."""

    def know(self, agent: AgentFacts) -> None:
        """Keep it; called once, before the first run."""

"""From what a collector yields to samples that may travel. Pure, but for running the collector's generator.

An author's mistake costs that sample, never the others and never the server's patience: names must begin
with the collector's own, values must be numbers, a series comes once a run, and a run that yields more than
its limit is cut off there. Each refusal is a sentence; a run says its first few and counts the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ct_ops_agent.collector import Missing, Reading, Sample
from ct_ops_agent.samples import TimedSample
from ct_ops_proto.series import SeriesError, series_text

MOST_SAMPLES = 1_000
"""Readings of one run, those that are refused counted too."""

MOST_SERIES = 2_000
"""Of one collector, as long as the agent runs: labels that never repeat would fill the server."""

_SENTENCES = 3
_LONGEST_SENTENCE = 300
_LONGEST_UNIT = 32
_EARLIEST, _LATEST = 0.0, 7_258_118_400.0
"""1970 to 2200, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of one run."""

    samples: tuple[TimedSample, ...]
    problem: str = ""
    """What the collector did wrong, in one line; empty: nothing."""

    missing: str = ""
    """What the host did not let it see, in one line; empty: everything was there."""


class Intake:
    """Takes the readings of one collector, run after run."""

    def __init__(
        self, name: str, *, most_samples: int = MOST_SAMPLES, most_series: int = MOST_SERIES
    ) -> None:
        self._name = name
        self._prefix = f"{name}."
        self._most_samples = most_samples
        self._most_series = most_series
        self._series: set[str] = set()

    def take(self, readings: Iterator[Reading], *, at_unix: float) -> Taken:
        """Run the generator to its end, or to the limit.

        Args:
            readings: what the collector yields; whatever it raises is the caller's.
            at_unix: the time of samples that say none.
        """
        samples: dict[str, TimedSample] = {}
        problems, missing = Sentences(), Sentences()
        for number, reading in enumerate(readings):
            if number >= self._most_samples:
                problems.add(
                    f"it yields more than {self._most_samples} times in one run; the rest is left out"
                )
                break
            try:
                if isinstance(reading, Missing):
                    missing.add(f"{reading.what}: {reading.why}")
                else:
                    sample = self._timed(reading, at_unix, samples)
                    samples[sample.series] = sample
            except SeriesError as error:
                problems.add(str(error))
            except Exception as error:  # noqa: BLE001  values of any type, whose methods may do anything
                problems.add(f"a {type(reading).__name__} cannot be read: {describe(error)}")
        return Taken(tuple(samples.values()), str(problems), str(missing))

    def _timed(self, sample: object, at_unix: float, earlier: Mapping[str, TimedSample]) -> TimedSample:
        if not isinstance(sample, Sample):
            raise SeriesError(f"it yields {type(sample).__name__}, which is neither Sample nor Missing")
        labels = {str(label): encodable(str(value)) for label, value in sample.labels.items()}
        series = series_text(sample.name, labels)
        if not sample.name.startswith(self._prefix):
            raise SeriesError(f"{sample.name} does not begin with {self._prefix}")
        if series in earlier:
            raise SeriesError(f"{series} is there twice; the first one counts")
        value = number_of(sample.value, series)
        at = at_unix if sample.at_unix is None else number_of(sample.at_unix, f"the time of {series}")
        if not _EARLIEST <= at <= _LATEST:
            raise SeriesError(f"the time of {series} is {at}, which is no time of this host")
        self._know(series)
        return TimedSample(series, round(at * 1000), value, unit_of(sample.unit, series))

    def _know(self, series: str) -> None:
        if series in self._series:
            return
        if len(self._series) >= self._most_series:
            raise SeriesError(f"more than {self._most_series} series; new ones are left out until a restart")
        self._series.add(series)


class Sentences:
    """The first few sentences of a run on one line, and how many more there were: a flood takes no memory."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._more = 0

    def add(self, text: str) -> None:
        """Take one more."""
        if len(self._first) < _SENTENCES:
            self._first.append(one_line(text))
        else:
            self._more += 1

    def __str__(self) -> str:
        shown = "; ".join(self._first)
        return f"{shown}; and {self._more} more" if self._more else shown


def number_of(value: object, what: str) -> float:
    """Return a finite number.

    Raises:
        SeriesError: it is none.
    """
    if not isinstance(value, int | float):
        raise SeriesError(f"{what} is of type {type(value).__name__}, which is no number")
    try:
        number = float(value)
    except OverflowError:
        raise SeriesError(f"{what} is too large a number") from None
    if not math.isfinite(number):
        raise SeriesError(f"{what} is {number}, which is no number")
    return number


def unit_of(unit: object, series: str) -> str:
    """Return a unit that can travel.

    Raises:
        SeriesError: it is no short text.
    """
    if not isinstance(unit, str) or len(unit) > _LONGEST_UNIT:
        raise SeriesError(f"the unit of {series} is no short text")
    return encodable(unit)


def encodable(text: str) -> str:
    """Return text that can travel: names on a host may be bytes that are no UTF-8."""
    return text.encode(errors="replace").decode()


def describe(error: BaseException) -> str:
    """Return an error as one line, also one whose own text raises."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  it is somebody else's class
        text = "(its text cannot be had)"
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def one_line(text: str) -> str:
    """Return a text for a log and a terminal: one line, printable, bounded."""
    shown = "".join(c if c.isprintable() else " " for c in text[: 2 * _LONGEST_SENTENCE])
    line = " ".join(shown.split())
    return line if len(line) <= _LONGEST_SENTENCE else line[: _LONGEST_SENTENCE - 1] + "…"

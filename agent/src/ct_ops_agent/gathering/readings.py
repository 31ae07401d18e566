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
"""Of one run."""

MOST_SERIES = 2_000
"""Of one collector, as long as the agent runs: labels that never repeat would fill the server."""

_SENTENCES = 3
_LONGEST_SENTENCE = 300


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
        problems: list[str] = []
        missing: list[str] = []
        for reading in readings:
            if len(samples) + len(missing) >= self._most_samples:
                problems.append(f"more than {self._most_samples} samples in one run; the rest is left out")
                break
            if isinstance(reading, Missing):
                missing.append(f"{reading.what}: {reading.why}")
                continue
            try:
                sample = self._timed(reading, at_unix, samples)
            except SeriesError as error:
                problems.append(str(error))
            else:
                samples[sample.series] = sample
        return Taken(tuple(samples.values()), summary(problems), summary(missing))

    def _timed(self, sample: object, at_unix: float, earlier: Mapping[str, TimedSample]) -> TimedSample:
        if not isinstance(sample, Sample):
            raise SeriesError(f"it yields {type(sample).__name__}, which is neither Sample nor Missing")
        series = series_text(sample.name, sample.labels)
        if not sample.name.startswith(self._prefix):
            raise SeriesError(f"{sample.name} does not begin with {self._prefix}")
        if series in earlier:
            raise SeriesError(f"{series} is there twice; the first one counts")
        value = float(sample.value)
        if not math.isfinite(value):
            raise SeriesError(f"{series} is {value}, which is no number")
        self._know(series)
        at = sample.at_unix if sample.at_unix is not None else at_unix
        return TimedSample(series, round(at * 1000), value, sample.unit)

    def _know(self, series: str) -> None:
        if series in self._series:
            return
        if len(self._series) >= self._most_series:
            raise SeriesError(f"more than {self._most_series} series; new ones are left out until a restart")
        self._series.add(series)


def summary(problems: list[str]) -> str:
    """Return the first problems on one line, and how many more there are."""
    shown = "; ".join(_one_line(problem) for problem in problems[:_SENTENCES])
    more = len(problems) - _SENTENCES
    return f"{shown}; and {more} more" if more > 0 else shown


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * _LONGEST_SENTENCE]).split())
    return line if len(line) <= _LONGEST_SENTENCE else line[: _LONGEST_SENTENCE - 1] + "…"

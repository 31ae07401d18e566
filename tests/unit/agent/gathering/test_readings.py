"""From what a collector yields to samples that may travel: an author's mistake costs that sample."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ct_ops_agent.collector import Missing, Reading, Sample
from ct_ops_agent.gathering.readings import Intake, Taken
from ct_ops_agent.samples import TimedSample

GOOD = Sample("disk.used_bytes", 5, "bytes", {"mount": "/"})


def take(*readings: Reading, intake: Intake | None = None) -> Taken:
    return (intake or Intake("disk")).take(iter(readings), at_unix=100.0)


def test_a_sample_gets_its_canonical_series_and_the_time_of_its_tick() -> None:
    """Or its own time, when it has one."""
    taken = take(GOOD, Sample("disk.total_bytes", 9, "bytes", at_unix=99.5))

    assert (
        TimedSample('disk.used_bytes{mount="/"}', 100_000, 5.0, "bytes"),
        TimedSample("disk.total_bytes", 99_500, 9.0, "bytes"),
    ) == taken.samples
    assert "" == taken.problem


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Sample("memory.used_bytes", 1), "does not begin with disk."),
        (Sample("disk.Used", 1), "no name"),
        (Sample("disk.used", 1, labels={"Mount": "/"}), "no label"),
        (Sample("disk.used", float("nan")), "no number"),
        (Sample("disk.used", float("inf")), "no number"),
        (Sample("disk.used", 1, labels={"mount": "x" * 2000}), "longer than"),
        (GOOD, "twice"),
        ("a text", "neither Sample nor Missing"),
    ],
)
def test_one_that_is_wrong_is_left_out_and_said(wrong: Reading, said: str) -> None:
    """The others are taken."""
    taken = take(GOOD, wrong)

    assert 1 == len(taken.samples)
    assert said in taken.problem


def test_what_is_missing_is_said_beside_what_is_there() -> None:
    """The rest is worth having."""
    taken = take(GOOD, Missing("/srv", "permission denied: run the agent in the group disk"))

    assert 1 == len(taken.samples)
    assert ("", "/srv: permission denied: run the agent in the group disk") == (taken.problem, taken.missing)


def test_a_flood_is_cut_off_where_the_limit_is() -> None:
    """A generator that never ends is left."""

    def endless() -> Iterator[Reading]:
        number = 0
        while True:
            number += 1
            yield Sample("disk.used_bytes", 1, labels={"mount": str(number)})

    taken = Intake("disk", most_samples=10).take(endless(), at_unix=0)

    assert 10 == len(taken.samples)
    assert "more than 10 times in one run" in taken.problem


def test_a_flood_of_what_is_refused_is_cut_off_too() -> None:
    """And takes no memory: the first few sentences are kept, the others counted."""
    asked: list[int] = []

    def endless() -> Iterator[Reading]:
        while True:
            asked.append(1)
            yield Sample("disk.used_bytes", float("nan"))

    taken = Intake("disk", most_samples=10).take(endless(), at_unix=0)

    assert (11, ()) == (len(asked), taken.samples)
    assert "and 8 more" in taken.problem


def test_labels_that_never_repeat_are_stopped() -> None:
    """A label with a process id would fill the server, run after run; known series go on."""
    intake = Intake("disk", most_series=2)
    for number in range(2):
        take(Sample("disk.used", 1, labels={"pid": str(number)}), intake=intake)
    taken = take(
        Sample("disk.used", 2, labels={"pid": "0"}),
        Sample("disk.used", 2, labels={"pid": "9"}),
        intake=intake,
    )

    assert ['disk.used{pid="0"}'] == [sample.series for sample in taken.samples]
    assert "more than 2 series" in taken.problem


def test_many_problems_are_one_short_line() -> None:
    """Without control characters: it ends up in a log and on a terminal."""
    taken = take(*(Missing(f"part {number}\x1b[2J\n", "why " * 300) for number in range(10)))

    assert "and 7 more" in taken.missing
    assert taken.missing.isprintable()
    assert 1200 > len(taken.missing)

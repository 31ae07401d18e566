"""One collector's life: whatever it does, only its own data suffers."""

from __future__ import annotations

import logging
import threading
import time as real_time
from collections.abc import Iterator, Sequence

import pytest

from ct_ops_agent.apart import Apart
from ct_ops_agent.collector import CollectorError, Missing, Reading, Sample
from ct_ops_agent.gathering.course import MOST_THREADS
from ct_ops_agent.gathering.thread_watch import ThreadWatch
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.transport.convert_items import ItemCodec
from unit.agent.gathering.world import START, OverError, Sink, Time, course_of, one_sample


def join_threads() -> None:
    """Wait until every collector's thread has ended."""
    for thread in threading.enumerate():
        if thread.name.startswith("collector "):
            thread.join(20)


async def test_it_runs_once_an_interval_and_its_jitter_never_adds_up() -> None:
    """1,441 runs in a day: at the beginning and on every minute."""
    sink, time = Sink(), Time(lasts_s=86_400 + 10)
    with pytest.raises(OverError):
        await course_of(one_sample, sink=sink, time=time).run()

    assert 2 * 1_441 == len(sink.taken)
    assert all(0 <= (sample.at_ms / 1000 - START) % 60 <= 5 for sample in sink.taken)


async def test_an_error_of_its_contract_is_its_problem() -> None:
    """The author's sentence is what operators read."""

    def broken() -> Iterator[Reading]:
        raise CollectorError("there is no /proc: mount it")
        yield

    sink = Sink()
    course = course_of(broken, sink=sink, time=Time())
    await course.once()

    assert ("there is no /proc: mount it", []) == (course.health.problem, sink.taken)


@pytest.mark.parametrize(
    "error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), RecursionError("deep")]
)
async def test_whatever_else_it_raises_stays_with_it(error: BaseException) -> None:
    """Also what would end the process."""

    def broken() -> Iterator[Reading]:
        yield Sample("probe.value", 1)
        raise error

    course = course_of(broken, sink=Sink(), time=Time())
    await course.once()

    assert f"it raised {type(error).__name__}" in course.health.problem
    assert 1 == course.health.failures_in_a_row


async def test_one_that_hangs_is_left_behind_and_no_second_is_started_beside_it() -> None:
    """And it runs again when the first has returned."""
    release, starts = threading.Event(), []

    def hanging() -> Iterator[Reading]:
        starts.append(1)
        release.wait(20)
        yield Sample("probe.value", 1)

    sink = Sink()
    course = course_of(hanging, sink=sink, time=Time(), timeout_s=0.05)
    await course.once()
    first = course.health.problem
    await course.once()
    second, started = course.health.problem, len(starts)
    release.set()
    join_threads()
    await course.once()

    assert "did not come back within 0.05 s" in first
    assert "still hangs" in second
    assert (1, 2) == (started, len(starts))
    assert "" == course.health.problem
    assert ["probe.value", "probe.run_seconds"] == [sample.series for sample in sink.taken]


async def test_what_comes_after_the_deadline_is_dropped() -> None:
    """Late samples would say that they are of now."""
    release = threading.Event()

    def late() -> Iterator[Reading]:
        release.wait(20)
        yield Sample("probe.value", 1)

    sink = Sink()
    course = course_of(late, sink=sink, time=Time(), timeout_s=0.05)
    await course.once()
    release.set()
    join_threads()

    assert [] == sink.taken


async def test_one_that_leaves_threads_behind_is_not_run_while_there_are_too_many() -> None:
    """Every run would leave more; when they have ended, it is run again."""
    release = threading.Event()
    left: list[threading.Thread] = []

    def leaking() -> Iterator[Reading]:
        for _ in range(5):
            left.append(threading.Thread(target=release.wait, args=(20,), daemon=True))
            left[-1].start()
        yield Sample("probe.value", 1)

    course = course_of(leaking, sink=Sink(), time=Time())
    for _ in range(6):
        await course.once()
    started, paused = len(left), course.health.problem
    release.set()
    for thread in left:
        thread.join(20)
    await course.once()

    assert (MOST_THREADS // 5 + 1) * 5 == started
    assert "threads behind; it is run again when they have ended" in paused
    assert "" == course.health.problem


async def test_threads_that_others_start_meanwhile_are_nobodys() -> None:
    """Checks and queries run in threads of the agent's own; another collector may run at the same time."""
    release = threading.Event()
    watch = ThreadWatch()
    alone = watch.begin()
    apart = [Apart(f"check {number}", lambda: release.wait(20)) for number in range(20)]
    after_checks = watch.end(alone)
    first, _second = watch.begin(), watch.begin()
    thread = threading.Thread(target=release.wait, args=(20,), daemon=True)
    thread.start()
    overlapping = watch.end(first)
    release.set()
    for one in apart:
        await one.wait(20)

    assert (frozenset(), frozenset()) == (after_checks, overlapping)


class SpitefulError(Exception):
    """Its text raises."""

    def __str__(self) -> str:
        raise ValueError("no text")


class SpitefulCollectorError(CollectorError):
    """Its text raises, too."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("error", [SpitefulError(), SpitefulCollectorError()])
async def test_attack_an_error_whose_text_raises_is_only_an_error(error: Exception) -> None:
    """The other collectors go on, and so does the agent."""

    def broken() -> Iterator[Reading]:
        raise error
        yield

    course = course_of(broken, sink=Sink(), time=Time())
    await course.once()

    assert "its text cannot be had" in course.health.problem


async def test_outage_a_host_without_threads_fails_the_run_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody else has used them up."""

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    course = course_of(one_sample, sink=Sink(), time=Time())
    await course.once()

    assert "can't start new thread" in course.health.problem


@pytest.mark.parametrize(
    "sample",
    [
        Sample("probe.value", 1, at_unix=1e30),
        Sample("probe.value", 1, at_unix=float("inf")),
        Sample("probe.value", 1, unit=5),  # type: ignore[arg-type]
        Sample("probe.value", 1, unit="\udcff"),
        Sample("probe.value", 1, unit="x" * 1000),
        Sample("probe.value", 1, labels={"a": "\udcff"}),
        Sample("probe.value", 1, labels={"a": 5}),  # type: ignore[dict-item]
        Sample("probe.value", None),  # type: ignore[arg-type]
        Sample("probe.value", "n/a"),  # type: ignore[arg-type]
        Sample("probe.value", 10**400),
        Sample(None, 1),  # type: ignore[arg-type]
    ],
)
async def test_attack_a_sample_that_cannot_travel_costs_that_sample(sample: Sample) -> None:
    """With the real codec: an exception there would end gathering, and the heartbeat with it."""

    class Encoding(Sink):
        async def put_samples(self, samples: Sequence[TimedSample]) -> None:
            ItemCodec().encode_samples(samples)
            await super().put_samples(samples)

    def odd() -> Iterator[Reading]:
        yield sample
        yield Sample("probe.good", 1)

    sink = Encoding()
    await course_of(odd, sink=sink, time=Time()).once()

    assert {"probe.good", "probe.run_seconds"} <= {one.series for one in sink.taken}


async def test_outage_an_outbox_that_fails_is_the_runs_problem() -> None:
    """Whatever it raises."""

    class Broken(Sink):
        async def put_samples(self, samples: Sequence[TimedSample]) -> None:
            raise ValueError(f"disk on fire with {len(samples)} samples")

    course = course_of(one_sample, sink=Broken(), time=Time())
    await course.once()

    assert "disk on fire" in course.health.problem


async def test_a_problem_is_logged_when_it_appears_changes_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Not at every run; and what the host does not show is no problem."""
    said = iter(["a", "a", "b", "", ""])

    def moody() -> Iterator[Reading]:
        yield Missing("part", "privilege")
        if text := next(said):
            raise CollectorError(text)

    course = course_of(moody, sink=Sink(), time=Time())
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            await course.once()

    assert [
        "collector probe: a",
        "collector probe: b",
        "collector probe works again",
        "collector probe does without part: privilege",
    ] == caplog.messages


async def test_a_run_that_has_nothing_to_say_is_still_delivered() -> None:
    """So that the server can tell it from a collector that does not run."""
    sink = Sink()
    await course_of(lambda: iter(()), sink=sink, time=Time()).once()

    assert ["probe.run_seconds"] == [sample.series for sample in sink.taken]


async def test_its_cost_is_counted_in_processor_time() -> None:
    """Of its own thread only."""

    def busy() -> Iterator[Reading]:
        until = real_time.thread_time() + 0.02
        while real_time.thread_time() < until:
            pass
        yield Sample("probe.value", 1)

    course = course_of(busy, sink=Sink(), time=Time())
    await course.once()

    assert 0.02 <= course.health.cpu_s

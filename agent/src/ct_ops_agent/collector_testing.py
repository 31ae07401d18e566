"""For authors of collectors: run one and hold what it yields to what it says of itself.

::

    def test_what_it_yields_is_what_it_documents() -> None:
        samples = collected(Raid(RaidSettings(), mdstat=FIXTURE))

        assert samples["raid.disks_failed"] == 0

`collected` fails with an `AssertionError` that says what is wrong: an undocumented sample, another unit,
labels that differ, a value that is no number, the same series twice, or a part that is missing when none was
expected. It needs no agent and no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ct_ops_agent.collector import About, AnyCollector, Missing, Reading, Sample, SampleDoc
from ct_ops_proto.series import SeriesError, series_text

__all__ = ["check_readings", "collected", "missing_parts"]


def collected(collector: AnyCollector, *, allow_missing: bool = False) -> dict[str, float]:
    """Run a collector once; return its samples' values by series.

    Args:
        collector: of yours.
        allow_missing: whether parts may be missing.

    Raises:
        AssertionError: it does not keep its contract.
    """
    readings = list(collector.collect())
    faults = check_readings(type(collector).about, readings)
    missing = [f"missing: {one.what}: {one.why}" for one in readings if isinstance(one, Missing)]
    if not allow_missing:
        faults += missing
    assert not faults, "\n".join(faults)
    return {
        series_text(one.name, one.labels): float(one.value) for one in readings if isinstance(one, Sample)
    }


def missing_parts(collector: AnyCollector) -> dict[str, str]:
    """Run a collector once; return why parts are missing, by part."""
    return {one.what: one.why for one in collector.collect() if isinstance(one, Missing)}


def check_readings(about: About, readings: list[Reading]) -> list[str]:
    """Return a sentence for each way in which readings differ from what the collector says of itself."""
    samples = [one for one in readings if isinstance(one, Sample)]
    faults = [fault for sample in samples for fault in _faults_of(about, sample)]
    names = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples]
    faults += [
        f"{name} {dict(labels)} is yielded twice"
        for name, labels in set(names)
        if names.count((name, labels)) > 1
    ]
    return faults


def _faults_of(about: About, sample: Sample) -> Iterator[str]:
    try:
        series_text(sample.name, sample.labels)
    except SeriesError as error:
        yield str(error)
        return
    if not math.isfinite(sample.value):
        yield f"{sample.name} is {sample.value}, which is no number"
    doc = _doc_of(about, sample.name)
    if doc is None:
        yield f"{sample.name} is not documented in about.samples"
        return
    if sample.unit != doc.unit:
        yield f"{sample.name} has the unit {sample.unit!r}, documented is {doc.unit!r}"
    if set(sample.labels) != set(doc.labels):
        yield f"{sample.name} has the labels {sorted(sample.labels)}, documented are {sorted(doc.labels)}"


def _doc_of(about: About, name: str) -> SampleDoc | None:
    return next((doc for doc in about.samples if doc.name == name), None)

"""The text format of Prometheus, read: names become ours, and what cannot be read is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_agent.collector import Missing, Reading, Sample
from ct_ops_agent.foreign.prometheus_text import read_prometheus_text, sample_name
from ct_ops_proto.series import series_text

TEXT = r"""# HELP node_raid_disks Disks.
# TYPE node_raid_disks gauge
node_raid_disks{device="md0",state="failed"} 0
node_raid_disks { device = "md1" , } 2.5

backup_last_success_seconds 1.7e9 1700000000123
backup:age NaN
label{path="C:\\x \"y\"\nz"} +Inf
"""


def read(text: str) -> list[Reading]:
    return list(read_prometheus_text("backup", text))


def test_samples_are_read_with_labels_and_times() -> None:
    """Comments are not; escapes are undone; the collector's own name is not said twice."""
    readings = read(TEXT)
    samples = [(one.name, dict(one.labels), one.at_unix) for one in readings if isinstance(one, Sample)]

    assert [
        ("backup.node_raid_disks", {"device": "md0", "state": "failed"}, None),
        ("backup.node_raid_disks", {"device": "md1"}, None),
        ("backup.last_success_seconds", {}, 1700000000.123),
        ("backup.age", {}, None),
        ("backup.label", {"path": 'C:\\x "y"\nz'}, None),
    ] == samples


@pytest.mark.parametrize(
    "line", ["x", "x y", "1x 1", 'x{a="1} 1', "x{a=1} 1", 'x{a="1"', "x 1 2 3", "x 1 soon"]
)
def test_a_line_that_cannot_be_read_is_said_and_the_others_are_taken(line: str) -> None:
    """By its number."""
    readings = read(f"a 1\n{line}\nb 2\n")

    assert ["Sample", "Missing", "Sample"] == [type(one).__name__ for one in readings]
    assert isinstance(readings[1], Missing)
    assert "line 2" == readings[1].what


@pytest.mark.parametrize(
    ("name", "expected"),
    [("backup_age", "backup.age"), ("Node:CPU_Total", "backup.node_cpu_total"), ("backup", "backup.backup")],
)
def test_names_become_ours(name: str, expected: str) -> None:
    """Lower case, below the collector."""
    assert expected == sample_name("backup", name)


@given(st.text(max_size=300))
def test_any_text_may_be_read(text: str) -> None:
    """What comes of it are samples with names that are allowed, or sentences."""
    for reading in read(text):
        if isinstance(reading, Sample):
            series_text(reading.name, {})

"""Memory: what is left is the kernel's own estimate, or said to be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError, Settings
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.memory import Memory, parse_meminfo

MODERN = """\
MemTotal:        1000 kB
MemFree:          100 kB
MemAvailable:     250 kB
Buffers:           50 kB
Cached:           200 kB
Dirty:              5 kB
SwapTotal:        400 kB
SwapFree:         300 kB
HugePages_Total:    0
"""


def memory(folder: Path, text: str) -> Memory:
    (folder / "meminfo").write_text(text)
    return Memory(Settings(), folder / "meminfo")


def test_a_modern_kernel_tells_everything(tmp_path: Path) -> None:
    """In bytes."""
    samples = collected(memory(tmp_path, MODERN))

    assert {
        "memory.total_bytes": 1_024_000.0,
        "memory.available_bytes": 256_000.0,
        "memory.used_percent": 75.0,
        "memory.cached_bytes": 256_000.0,
        "memory.dirty_bytes": 5_120.0,
        "memory.swap_total_bytes": 409_600.0,
        "memory.swap_used_bytes": 102_400.0,
    } == samples


def test_an_old_kernel_has_no_estimate_and_none_is_guessed(tmp_path: Path) -> None:
    """RHEL 6: what is free is not what is available."""
    text = MODERN.replace("MemAvailable:     250 kB\n", "")

    assert "memory.used_percent" not in collected(memory(tmp_path, text), allow_missing=True)
    assert "before Linux 3.14" in missing_parts(memory(tmp_path, text))["available memory"]


def test_a_host_without_swap_says_zero(tmp_path: Path) -> None:
    """That is an answer."""
    text = "MemTotal: 10 kB\nMemAvailable: 5 kB\n"

    assert 0.0 == collected(memory(tmp_path, text))["memory.swap_total_bytes"]


def test_a_file_without_a_total_is_an_error(tmp_path: Path) -> None:
    """And one that is not there."""
    with pytest.raises(CollectorError, match="how much memory"):
        list(memory(tmp_path, "").collect())
    with pytest.raises(CollectorError, match="No such file"):
        list(Memory(Settings(), tmp_path / "none").collect())


def test_lines_without_a_unit_are_counts_and_left_out() -> None:
    """HugePages are no kilobytes."""
    assert "HugePages_Total" not in parse_meminfo(MODERN)

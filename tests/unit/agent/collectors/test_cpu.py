"""CPU: shares are over the whole time between two looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.cpu import Cpu, CpuSettings, Ticks, parse_stat, percent

BEFORE = """\
cpu  1000 0 500 8000 500 0 0 0 0 0
cpu0 500 0 250 4000 250 0 0 0 0 0
cpu1 500 0 250 4000 250 0 0 0 0 0
intr 12345 0 0
ctxt 1
btime 1700000000
"""
AFTER = """\
cpu  1050 0 500 8100 530 0 0 20 40 0
cpu0 550 0 250 4000 250 0 0 0 0 0
cpu1 500 0 250 4100 280 0 0 20 40 0
"""
LINUX_2_4 = "cpu  100 0 100 800\ncpu0 100 0 100 800\n"


def cpu(file: Path, settings: CpuSettings | None = None) -> Cpu:
    return Cpu(settings or CpuSettings(), file, load=lambda: (1.0, 0.5, 0.25))


def test_a_share_is_over_the_time_since_the_run_before(tmp_path: Path) -> None:
    """Of 200 ticks 50 were busy and 20 stolen; waiting for a disk is not being busy, a guest is counted once."""
    file = tmp_path / "stat"
    file.write_text(BEFORE)
    collector = cpu(file)
    collected(collector)
    file.write_text(AFTER)
    samples = collected(collector)

    assert (35.0, 15.0, 10.0) == (
        samples["cpu.percent"],
        samples["cpu.iowait_percent"],
        samples["cpu.steal_percent"],
    )
    assert 100.0 == samples['cpu.core_percent{core="0"}']
    assert 20.0 / 150 * 100 == pytest.approx(samples['cpu.core_percent{core="1"}'])


def test_the_first_run_tells_the_average_since_boot(tmp_path: Path) -> None:
    """There is nothing else to compare with."""
    (tmp_path / "stat").write_text(BEFORE)

    assert 15.0 == collected(cpu(tmp_path / "stat"))["cpu.percent"]


def test_an_old_kernel_that_tells_less_is_read(tmp_path: Path) -> None:
    """Without iowait and steal."""
    (tmp_path / "stat").write_text(LINUX_2_4)

    assert 20.0 == collected(cpu(tmp_path / "stat"))["cpu.percent"]


def test_a_big_host_does_not_tell_every_core(tmp_path: Path) -> None:
    """256 series a minute nobody looks at; how many there are is told."""
    (tmp_path / "stat").write_text(BEFORE)
    samples = collected(cpu(tmp_path / "stat", CpuSettings(most_cores=1)))

    assert 2.0 == samples["cpu.cores"]
    assert not [series for series in samples if series.startswith("cpu.core_percent")]


def test_a_counter_that_went_back_gives_no_negative_share() -> None:
    """Kernels let iowait go back now and then."""
    before, after = Ticks(10, 5, 0, 100), Ticks(9, 4, 0, 100)

    assert (0.0, 0.0) == (
        percent(before, after, lambda one: one.busy),
        percent(Ticks(10, 5, 0, 100), Ticks(12, 4, 0, 110), lambda one: one.iowait),
    )


@pytest.mark.parametrize("text", ["", "intr 1\n", "cpu  a b c\n"])
def test_a_file_that_says_nothing_is_an_error(tmp_path: Path, text: str) -> None:
    """Not a host without load."""
    (tmp_path / "stat").write_text(text)
    with pytest.raises(CollectorError, match="stat"):
        list(cpu(tmp_path / "stat").collect())


def test_a_host_that_does_not_tell_its_load_says_so(tmp_path: Path) -> None:
    """The rest is there."""
    (tmp_path / "stat").write_text(BEFORE)

    def none() -> tuple[float, float, float]:
        raise OSError

    assert {"load": "this host does not tell it"} == missing_parts(
        Cpu(CpuSettings(), tmp_path / "stat", load=none)
    )


def test_processors_are_told_by_name() -> None:
    """All together as well."""
    assert {"cpu", "cpu0", "cpu1"} == parse_stat(BEFORE).keys()

"""Processes: counts, and who uses most, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.processes import Processes, ProcessesSettings, parse_process

LINE = "{pid} ({name}) {state} 1 1 1 0 -1 {flags} 0 0 0 0 {ticks} 0 0 0 20 0 {threads} 0 {started} 1000 {pages} 0\n"


def put(
    proc: Path,
    pid: int,
    name: str,
    *,
    state: str = "S",
    ticks: int = 0,
    pages: int = 1,
    started: int = 5,
    flags: int = 0,
) -> None:
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    line = LINE.format(
        pid=pid, name=name, state=state, ticks=ticks, threads=2, started=started, pages=pages, flags=flags
    )
    (proc / str(pid) / "stat").write_bytes(line.encode("latin-1"))


def processes(proc: Path, now: list[float], top: int = 2) -> Processes:
    return Processes(ProcessesSettings(top=top), proc, monotonic=lambda: now[0])


@pytest.mark.parametrize("name", ["sh", "a) R 1", "(sd-pam)", "tmux: server", "", "x\ny"])
def test_a_name_may_hold_any_character(name: str) -> None:
    """Also those that stand around it."""
    found = parse_process(
        LINE.format(pid=7, name=name, state="S", ticks=3, threads=2, started=5, pages=9, flags=0)
    )

    assert found is not None
    assert (7, name, "sleeping", 3, 2, 5, 9) == (
        found.pid,
        found.name,
        found.state,
        found.cpu_ticks,
        found.threads,
        found.started_ticks,
        found.resident_pages,
    )


@pytest.mark.parametrize("text", ["", "7", "7 (sh)", "x (sh) S " + "0 " * 30, "7 (sh) S 1 2"])
def test_a_line_that_was_cut_off_is_no_process(text: str) -> None:
    """It ended while it was read."""
    assert parse_process(text) is None


def test_processes_are_counted_by_state(tmp_path: Path) -> None:
    """Every state is told, so that a zombie that is gone is a zero."""
    for pid, state in enumerate("SSRZI", start=1):
        put(tmp_path, pid, "x", state=state)
    samples = collected(processes(tmp_path, [0.0]))

    assert (5.0, 10.0) == (samples["processes.count"], samples["processes.threads"])
    assert (2.0, 1.0, 0.0) == tuple(
        samples[f'processes.in_state{{state="{state}"}}'] for state in ("sleeping", "zombie", "stopped")
    )


def test_the_busiest_names_are_told_over_the_time_between_two_looks(tmp_path: Path) -> None:
    """All processes of a name together; a process id that was used again is another process."""
    now = [0.0]
    collector = processes(tmp_path, now)
    put(tmp_path, 1, "init")
    put(tmp_path, 2, "worker", ticks=100)
    put(tmp_path, 3, "worker", ticks=100)
    put(tmp_path, 4, "reused", ticks=5000, started=5)
    first = collected(collector)
    now[0] = 10.0
    put(tmp_path, 2, "worker", ticks=200)
    put(tmp_path, 3, "worker", ticks=300)
    put(tmp_path, 4, "reused", ticks=50, started=999)
    second = collected(collector)
    share = 100.0 / (10.0 * collector._ticks_per_s)

    assert not [series for series in first if "cpu" in series]
    assert {
        'processes.cpu_percent{name="worker"}': 300 * share,
        'processes.cpu_percent{name="reused"}': 50 * share,
    } == {series: value for series, value in second.items() if "cpu" in series}


def test_the_biggest_names_are_told(tmp_path: Path) -> None:
    """In bytes."""
    put(tmp_path, 1, "init", pages=1)
    put(tmp_path, 2, "db", pages=100)
    put(tmp_path, 3, "db", pages=100)
    samples = collected(processes(tmp_path, [0.0], top=1))

    assert ['processes.memory_bytes{name="db"}'] == [series for series in samples if "memory" in series]


def test_a_host_that_hides_the_others_says_so(tmp_path: Path) -> None:
    """hidepid: process 1 is not to be seen."""
    put(tmp_path, 4711, "agent")

    assert "hidepid" in missing_parts(processes(tmp_path, [0.0]))["processes of other users"]


def test_attack_a_name_of_bytes_and_control_characters_is_only_a_label(tmp_path: Path) -> None:
    """The samples are of the canonical form; the server cleans what is shown."""
    put(tmp_path, 1, 'x"\x1b[2J\xff\n', pages=5)

    assert collected(processes(tmp_path, [0.0]))


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    """An error, not an idle host."""
    with pytest.raises(CollectorError, match="cannot be read"):
        list(processes(tmp_path / "none", [0.0]).collect())


def test_threads_of_the_kernel_are_told_without_the_work_they_do_at_the_moment(tmp_path: Path) -> None:
    """Their names change; a program that calls itself like one keeps its name."""
    now = [0.0]
    collector = processes(tmp_path, now)
    for ticks in (0, 10):
        put(tmp_path, 1, "init")
        put(tmp_path, 2, f"kworker/0:{ticks}-events", ticks=ticks, pages=0, flags=0x04208060)
        put(tmp_path, 3, f"kworker/u8:{ticks}+flush-8:0", ticks=ticks, pages=0, flags=0x04208060)
        put(tmp_path, 4, "kworker/0:0-miner", ticks=ticks * 9)
        samples = collected(collector)
        now[0] += 10.0

    assert [
        'processes.cpu_percent{name="kworker"}',
        'processes.cpu_percent{name="kworker/0:0-miner"}',
    ] == sorted(series for series in samples if "cpu" in series)


def test_attack_a_program_that_keeps_renaming_itself_makes_series_with_an_end(tmp_path: Path) -> None:
    """200 names while the agent runs, and `other` for the rest, in which nothing is lost."""
    collector = processes(tmp_path, [0.0], top=50)
    told: set[str] = set()
    for run in range(10):
        for pid in range(1, 51):
            put(tmp_path, pid, f"name {run} {pid}")
        told |= (samples := collected(collector)).keys()
    of_memory = {series for series in told if "memory" in series}

    assert 201 == len(of_memory)
    assert 50.0 * collector._page_bytes == samples['processes.memory_bytes{name="other"}']


def test_a_name_that_was_told_is_told_on_after_the_last_new_one(tmp_path: Path) -> None:
    """What is drawn goes on."""
    collector = processes(tmp_path, [0.0], top=1)
    put(tmp_path, 1, "db")
    collected(collector)
    for number in range(300):
        put(tmp_path, 1, f"name {number}")
        collected(collector)
    put(tmp_path, 1, "db")

    assert 'processes.memory_bytes{name="db"}' in collected(collector)

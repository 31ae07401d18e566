"""Where the status file is."""

import os
from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from ct_ops_agent.status.place import STATUS_NAME, choose_file, find_report, folders, write_report
from ct_ops_agent.status.report import Report, State


def report(data_dir: PurePath, written_at: float = 1.0) -> Report:
    return Report(7, "1.0", str(data_dir), State.CONNECTED, 0.0, written_at)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """The folder that systemd made."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_the_folder_of_the_unit_comes_first(data: Path) -> None:
    """RUNTIME_DIRECTORY may list several; the first one is ours."""
    assert (Path("/run/x"), Path("/run/ct-ops/agent"), data) == folders(
        data, {"RUNTIME_DIRECTORY": "/run/x:/run/y"}
    )
    assert (Path("/run/ct-ops/agent"), data) == folders(data, {})


def test_a_folder_that_is_not_there_is_passed_over(data: Path, runtime: Path) -> None:
    """Nobody made it: the data directory has to do."""
    assert runtime / STATUS_NAME == choose_file(data, (runtime, data))
    assert data / STATUS_NAME == choose_file(data, (runtime / "gone", data))


def test_another_agents_file_is_left(data: Path, runtime: Path) -> None:
    """Two agents on one host do not overwrite each other's report."""
    write_report(runtime / STATUS_NAME, report(PurePath("/elsewhere")))

    assert data / STATUS_NAME == choose_file(data, (runtime, data))


def test_the_newest_report_about_this_directory_counts(data: Path, runtime: Path) -> None:
    """Wherever it is; a report about another directory does not."""
    write_report(runtime / STATUS_NAME, report(data, 5.0))
    write_report(data / STATUS_NAME, report(data, 9.0))
    found = find_report(data, (runtime, data))

    assert report(data, 9.0) == found
    assert find_report(Path("/elsewhere"), (runtime, data)) is None


def test_everybody_may_read_it_whatever_the_umask(data: Path) -> None:
    """Mode 0644, and nothing left beside it."""
    before = os.umask(0o077)
    try:
        write_report(data / STATUS_NAME, report(data))
        write_report(data / STATUS_NAME, replace(report(data), state=State.WAITING))
    finally:
        os.umask(before)

    assert [STATUS_NAME] == [path.name for path in data.iterdir()]
    assert 0o644 == (data / STATUS_NAME).stat().st_mode & 0o777


def test_attack_a_link_in_the_place_of_the_file_is_not_followed(data: Path, tmp_path: Path) -> None:
    """Neither read through nor written through: it is replaced."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (data / STATUS_NAME).symlink_to(victim)

    assert find_report(data, (data,)) is None
    write_report(data / STATUS_NAME, report(data))
    assert "precious" == victim.read_text()
    assert report(data) == find_report(data, (data,))

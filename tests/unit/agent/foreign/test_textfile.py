"""A folder of files that others write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError, Missing, Sample
from ct_ops_agent.foreign.textfile import TextFiles, TextFileSettings

NOW = 1_700_000_000.0


def collector(folder: Path) -> TextFiles:
    return TextFiles(TextFileSettings(directory=str(folder), stale_after_secs=3600), wall=lambda: NOW)


def write(folder: Path, name: str, text: str, *, age_s: float = 60.0) -> None:
    (folder / name).write_text(text)
    os.utime(folder / name, (NOW - age_s, NOW - age_s))


def test_files_are_read_and_their_age_is_a_sample(tmp_path: Path) -> None:
    """Only those that end with .prom: the others are not ready."""
    write(tmp_path, "backup.prom", "backup_age_seconds 5\n")
    write(tmp_path, "half.prom.tmp", "nonsense")

    assert [
        Sample("textfile.file_age_seconds", 60.0, "s", {"file": "backup.prom"}),
        Sample("textfile.backup_age_seconds", 5.0),
    ] == list(collector(tmp_path).collect())


def test_a_stale_file_is_said_and_left_out(tmp_path: Path) -> None:
    """Yesterday's "all is well" would be a lie; its age is still told."""
    write(tmp_path, "backup.prom", "backup_ok 1\n", age_s=7200)
    age, stale = collector(tmp_path).collect()

    assert isinstance(age, Sample)
    assert Missing("backup.prom", "nobody has written it for 2 h; its samples are left out") == stale


def test_a_torn_line_is_said_with_its_file(tmp_path: Path) -> None:
    """Whoever writes can be found."""
    write(tmp_path, "a.prom", "ok 1\nbroken{\n")
    missing = [one for one in collector(tmp_path).collect() if isinstance(one, Missing)]

    assert ["a.prom line 2"] == [one.what for one in missing]


def test_a_file_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    """Somebody's log in the wrong place."""
    write(tmp_path, "a.prom", "x 1\n" * 400_000)
    _, missing = collector(tmp_path).collect()

    assert isinstance(missing, Missing)
    assert "longer than" in missing.why


def test_a_folder_that_is_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """An empty one is none."""
    with pytest.raises(CollectorError, match="make it, or name another one"):
        list(collector(tmp_path / "none").collect())
    assert [] == list(collector(tmp_path).collect())


def test_attack_a_link_in_the_folder_leads_nowhere(tmp_path: Path) -> None:
    """Whoever may write there must not read what only the agent may."""
    secret = tmp_path / "secret"
    secret.write_text("root:$6$hash:19000::\n")
    (tmp_path / "x.prom").symlink_to(secret)
    readings = list(collector(tmp_path).collect())

    assert ["x.prom"] == [one.what for one in readings if isinstance(one, Missing)]
    assert "$6$hash" not in str(readings)


def test_attack_a_line_that_cannot_be_read_is_not_repeated(tmp_path: Path) -> None:
    """A hard link leads to another file just as well."""
    write(tmp_path, "x.prom", "root:$6$hash:19000::\n")

    assert "$6$hash" not in str(list(collector(tmp_path).collect()))


def test_attack_a_pipe_in_the_folder_holds_nobody(tmp_path: Path) -> None:
    """It would wait for a writer for ever."""
    os.mkfifo(tmp_path / "x.prom")
    (missing,) = collector(tmp_path).collect()

    assert Missing("x.prom", "cannot be read: it is no regular file") == missing

"""The form of server.env."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.config.env_file import load_env_file, parse_env_file


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("KEY=value", {"KEY": "value"}),
        ("  KEY=value  ", {"KEY": "value"}),
        ("export KEY=value", {"KEY": "value"}),
        ("KEY=", {"KEY": ""}),
        ("KEY='two words'", {"KEY": "two words"}),
        ('KEY="two words" # why', {"KEY": "two words"}),
        ("KEY=value # it's a comment", {"KEY": "value"}),
        ("KEY=val#ue", {"KEY": "val#ue"}),
        ("KEY='pa$$word'", {"KEY": "pa$$word"}),
        ("KEY=pa$word", {"KEY": "pa$word"}),
        ("KEY=a=b", {"KEY": "a=b"}),
        (r'KEY="quo\"te"', {"KEY": 'quo"te'}),
        ("# it's a comment", {}),
        ("", {}),
        ("   ", {}),
    ],
)
def test_a_line_is_read_as_a_shell_reads_it(line: str, expected: dict[str, str]) -> None:
    """Quotes go, comments go, nothing is expanded."""
    found = parse_env_file(line, name="server.env")

    assert found.values == expected
    assert () == found.problems


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("KEY", "no equals sign"),
        ("export", "no equals sign"),
        ("KEY = value", "a space outside quotes"),
        ("=hunter2", "no variable name"),
        ("2KEY=hunter2", "no variable name"),
        ("KEY=two hunter2", "a space outside quotes"),
        ("KEY='hunter2", "a quote that is not closed"),
        ("KEY=hunter2\\", "a quote that is not closed, or ends in a backslash"),
    ],
)
def test_a_malformed_line_is_a_problem_with_its_number(line: str, what: str) -> None:
    """The problem tells the line and the reason, and never repeats what may be a password."""
    found = parse_env_file(f"# one\nA=1\n{line}\nB=2\n", name="server.env")

    assert {"A": "1", "B": "2"} == found.values
    assert ["server.env:3"] == [problem.name for problem in found.problems]
    assert what in found.problems[0].what
    assert "hunter2" not in str(found.problems[0])


def test_the_last_of_two_lines_wins() -> None:
    """As in a shell."""
    assert {"A": "2"} == parse_env_file("A=1\nA=2", name="x").values


@given(
    value=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="'"),
        max_size=60,
    )
)
def test_any_value_in_single_quotes_comes_back(value: str) -> None:
    """Single quotes are the advice we give, so they must hold anything."""
    assert parse_env_file(f"KEY='{value}'", name="x").values == {"KEY": value}


def test_a_shell_agrees(tmp_path: Path) -> None:
    """A file that we accept means the same when a shell sources it."""
    text = "export A=plain\nB='sin gle # $x'\nC=\"dou ble\" # note\nD=a#b\n"
    (tmp_path / "server.env").write_text(text)
    script = f'set -a; . {tmp_path}/server.env; printf "%s\\n" "$A" "$B" "$C" "$D"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout

    assert shell.splitlines() == list(parse_env_file(text, name="x").values.values())


def test_a_missing_file_is_fine(tmp_path: Path) -> None:
    """Nobody needs a file."""
    assert {} == load_env_file(tmp_path / "server.env").values
    assert () == load_env_file(tmp_path / "server.env").problems


@pytest.mark.parametrize("kind", ["directory", "binary"])
def test_an_unreadable_file_is_a_problem(tmp_path: Path, kind: str) -> None:
    """It is there, so somebody meant it: starting without it would be wrong."""
    path = tmp_path / "server.env"
    if kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe\x00")

    (problem,) = load_env_file(path).problems

    assert str(path) == problem.name
    assert problem.remedy


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    """Windows editors leave one."""
    (tmp_path / "server.env").write_bytes(b"\xef\xbb\xbfA=1\r\nB=2\r\n")

    assert {"A": "1", "B": "2"} == load_env_file(tmp_path / "server.env").values

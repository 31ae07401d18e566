"""Every promise names tests, and each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/promises.md").read_text()

_NAMED = re.compile(r"`(?P<file>[\w/]+\.py)::(?P<test>test_\w+)`")


def functions_of(file: Path) -> set[str]:
    """Return the names of the functions of a module."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {each.name for each in ast.walk(ast.parse(file.read_text())) if isinstance(each, functions)}


def test_every_test_that_a_promise_names_is_there() -> None:
    """A test that was renamed leaves no promise without proof."""
    named = [(match["file"], match["test"]) for match in _NAMED.finditer(PAGE)]
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / "tests" / file).exists() or test not in functions_of(ROOT / "tests" / file)
    ]

    assert named
    assert [] == missing


def test_every_promise_names_a_test() -> None:
    """What nothing shows is no promise."""
    promises = re.split(r"^\* ", PAGE, flags=re.MULTILINE)[1:]

    assert [] == [each.splitlines()[0] for each in promises if not _NAMED.search(each)]

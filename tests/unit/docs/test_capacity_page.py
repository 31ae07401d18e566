"""The capacity page and the command that fills it name the same rows."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_row_that_can_be_measured_is_explained() -> None:
    """And none that cannot be."""
    page = (ROOT / "docs/capacity.md").read_text()
    code = (ROOT / "bench/capacity_rows.py").read_text()
    rows = re.findall(r'^    "([a-z-]+)": Row\(', code, re.MULTILINE)

    assert rows
    assert sorted(rows) == sorted(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))

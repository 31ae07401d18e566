"""One JSON object a line, as programs print them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_agent.collector import Missing, Sample
from ct_ops_agent.foreign.json_lines import read_json_lines


def test_samples_and_what_is_missing_are_read() -> None:
    """Names go below the collector's own, said or not."""
    text = """
{"name": "age_seconds", "value": 42, "unit": "s", "labels": {"job": "nightly"}, "time": 1.5}
{"name": "backup.ok", "value": true}
{"missing": "weekly", "why": "no log"}
"""

    assert [
        Sample("backup.age_seconds", 42.0, "s", {"job": "nightly"}, 1.5),
        Sample("backup.ok", 1.0),
        Missing("weekly", "no log"),
    ] == list(read_json_lines("backup", text))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "42",
        '{"value": 1}',
        '{"name": "x"}',
        '{"name": "x", "value": "1"}',
        '{"name": "x", "value": 1, "u": 2}',
    ],
)
def test_a_line_that_is_no_reading_is_said(line: str) -> None:
    """By its number, with the reason."""
    (reading,) = read_json_lines("backup", line)

    assert isinstance(reading, Missing)
    assert "line 1" == reading.what


@given(st.text(max_size=300))
def test_any_text_may_be_read(text: str) -> None:
    """Nothing is raised."""
    list(read_json_lines("backup", text))


def test_attack_a_deeply_nested_line_is_only_a_line_that_cannot_be_read() -> None:
    """A parser that recurses must not take the agent with it."""
    (reading,) = read_json_lines("backup", '{"name":' + "[" * 100_000)

    assert isinstance(reading, Missing)

"""Durations have one form."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.config.duration import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        (" 90m ", timedelta(minutes=90)),
        ("36500d", LONGEST),
    ],
)
def test_a_number_and_a_unit_is_a_duration(text: str, expected: timedelta) -> None:
    """Seconds, minutes, hours and days are understood."""
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "30", "s", "1.5h", "-5m", "1h30m", "5 m", "5M", "1w", "0s", "36501d", "9" * 13 + "s", "٣s"]
)
def test_anything_else_is_refused(text: str) -> None:
    """Other forms, nothing at all and more than a hundred years are errors."""
    with pytest.raises(ValueError, match=r"duration|longer than nothing"):
        parse_duration(text)


@given(st.integers(1, int(LONGEST.total_seconds())))
def test_a_duration_comes_back_from_its_text(seconds: int) -> None:
    """Formatting loses nothing."""
    duration = timedelta(seconds=seconds)

    assert duration == parse_duration(format_duration(duration))


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(hours=24), "1d"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=61.9), "61s"),
        (timedelta(0), "0s"),
        (timedelta(seconds=-3), "0s"),
    ],
)
def test_the_shortest_exact_form_is_chosen(duration: timedelta, expected: str) -> None:
    """The largest unit that divides evenly."""
    assert expected == format_duration(duration)

"""Durations as operators write them: ``30s``, ``5m``, ``12h``, ``7d``. One number, one unit."""

from __future__ import annotations

import re
from datetime import timedelta

FORM = "a number and one of s, m, h, d: 30s, 5m, 12h, 7d"

LONGEST = timedelta(days=36500)
"""A hundred years. Beyond it is a slip of the finger, and dates would overflow."""

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"([0-9]{1,12})([smhd])")


def parse_duration(text: str) -> timedelta:
    """Return the duration.

    Raises:
        ValueError: another form, zero, or longer than ``LONGEST``.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"is no duration ({FORM})")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= LONGEST.total_seconds():
        raise ValueError("must be longer than nothing and at most a hundred years")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Return the shortest exact form, fractions of a second cut off; ``0s`` for nothing or less."""
    seconds = max(0, int(duration.total_seconds()))
    unit = next((unit for unit, size in _SECONDS.items() if seconds and seconds % size == 0), "s")
    return f"{seconds // _SECONDS[unit]}{unit}"

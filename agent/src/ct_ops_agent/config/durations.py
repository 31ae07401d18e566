"""Durations as people write them: ``30s``, ``5m``, ``12h``, ``7d``; a bare number counts seconds."""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION = re.compile(r"(\d{1,9})\s*([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(raw: object, *, shortest: timedelta, longest: timedelta) -> timedelta:
    """Read a duration.

    Raises:
        ValueError: it is none, or out of range; the text says what to write.
    """
    text = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f'{raw!r} is no duration; write for example "30s", "5m" or "12h"')
    duration = timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    if not shortest <= duration <= longest:
        raise ValueError(f'{raw!r} is out of range; write from "{spell(shortest)}" to "{spell(longest)}"')
    return duration


def spell(duration: timedelta) -> str:
    """Return a duration as it is written in the file, in the largest unit that fits."""
    seconds = int(duration.total_seconds())
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def spell_seconds(seconds: float) -> str:
    """Return seconds as they are written in the file."""
    return spell(timedelta(seconds=seconds))

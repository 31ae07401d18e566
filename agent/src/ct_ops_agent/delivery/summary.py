"""What a batch holds, in numbers: enough to say what is missing when its bytes are gone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """So many items of one type, and the span of their times."""

    type: str
    count: int
    from_ms: int
    to_ms: int


class Summary:
    """Tallies, one for each type."""

    def __init__(self, tallies: Iterable[Tally] = ()) -> None:
        self._by_type: dict[str, Tally] = {}
        for tally in tallies:
            self.add(tally)

    def __iter__(self) -> Iterator[Tally]:
        return iter(self._by_type.values())

    def __bool__(self) -> bool:
        return bool(self._by_type)

    def add(self, tally: Tally) -> None:
        """Count more items."""
        known = self._by_type.get(tally.type, tally)
        count = tally.count if known is tally else known.count + tally.count
        self._by_type[tally.type] = Tally(
            tally.type, count, min(known.from_ms, tally.from_ms), max(known.to_ms, tally.to_ms)
        )

    def to_text(self) -> str:
        """Return the form that is kept."""
        rows = [(tally.type, tally.count, tally.from_ms, tally.to_ms) for tally in self]
        return json.dumps(rows, separators=(",", ":"))


def parse_summary(text: str) -> Summary:
    """Read what `Summary.to_text` wrote."""
    return Summary(Tally(*row) for row in json.loads(text))

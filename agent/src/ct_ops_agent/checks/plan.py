"""Which checks start and stop when a list comes, and on which grid each lives. Pure.

A check runs at once when it is new or was changed, and from then on lives on a grid (`ticks`) that begins with
its first run. This beginning (`Planned.since`) is what is kept over a restart: so the interval is respected
then, and a hundred checks do not all run in the moment in which the agent comes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ct_ops_agent.work import CheckDefinition

DEFAULT_INTERVAL_S = 60.0
SHORTEST_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A check and its grid."""

    definition: CheckDefinition
    since: float
    """Wall clock of its first run, in Unix seconds."""

    @property
    def interval_s(self) -> float:
        """Seconds between two ticks; a server that says nothing usable gets the default."""
        asked = self.definition.interval_s
        if not math.isfinite(asked) or asked <= 0:
            return DEFAULT_INTERVAL_S
        return max(asked, SHORTEST_INTERVAL_S)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a list of definitions means for the checks that run."""

    stop: tuple[str, ...]
    """Ids that are gone or changed."""

    start: tuple[CheckDefinition, ...]
    """New or changed."""

    def __bool__(self) -> bool:
        return bool(self.stop or self.start)


def compare(running: Mapping[str, Planned], wanted: Iterable[CheckDefinition]) -> Changes:
    """Return what to do so that exactly the wanted ones run. Of one id the last definition counts."""
    wished = {definition.check_id: definition for definition in wanted if definition.check_id}
    known = {check_id: planned.definition for check_id, planned in running.items()}
    return Changes(
        stop=tuple(check_id for check_id, found in known.items() if wished.get(check_id) != found),
        start=tuple(
            definition for check_id, definition in wished.items() if known.get(check_id) != definition
        ),
    )

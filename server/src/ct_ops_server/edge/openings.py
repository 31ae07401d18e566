"""How many streams of one agent may be opening at once on this process.

A healthy agent opens one. Of a template that was cloned 400 times all open theirs together, and because the
writer stores one opening of an agent in a group, the others would wait there for half a minute. A few may
wait; the rest is sent away before it costs the database anything, and comes back by its own backoff. What is
counted ends with the opening, so nothing here grows with agents or with time.
"""

from __future__ import annotations

from collections import Counter

MOST_AT_ONCE = 4


class Openings:
    """The openings that are under way, by agent."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._most = most
        self._under_way: Counter[str] = Counter()

    def enter(self, agent_id: str) -> bool:
        """Count an opening; False: this agent has too many, and this one must not begin."""
        if self._under_way[agent_id] >= self._most:
            return False
        self._under_way[agent_id] += 1
        return True

    def leave(self, agent_id: str) -> None:
        """Forget an opening that is over, however it went."""
        self._under_way[agent_id] -= 1
        if not self._under_way[agent_id]:
            del self._under_way[agent_id]

    def __len__(self) -> int:
        return len(self._under_way)

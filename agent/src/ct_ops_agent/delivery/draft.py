"""A batch in the making, and how large it may become."""

from __future__ import annotations

from dataclasses import dataclass, field

from ct_ops_agent.delivery.summary import Summary, Tally


@dataclass(frozen=True)
class Room:
    """How large a payload may be."""

    usual_bytes: int
    """A batch is full here; one item alone may be larger."""

    most_bytes: int
    """No payload is larger for this server."""


@dataclass
class Draft:
    """A batch in the making."""

    room: Room
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    summary: Summary = field(default_factory=Summary)

    def has_room_for(self, body: bytes) -> bool:
        """Whether it fits; the first always does."""
        return not self.parts or self.size + len(body) <= self.room.usual_bytes

    def add(self, body: bytes, tally: Tally) -> None:
        """Put it at the end."""
        self.parts.append(body)
        self.size += len(body)
        self.summary.add(tally)

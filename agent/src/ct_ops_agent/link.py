"""A stream as work sees it: what the server can do, and the calls that need its connection.

Also who stands in for work and delivery where there are none: a single run, and tests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from ct_ops_agent.batches import Batch, BatchAck, Position, Welcome
from ct_ops_agent.control_plane import Session
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.work import InventoryChunk, Link, Work

_log = logging.getLogger(__name__)


class StreamLink:
    """Fulfils `work.Link` for as long as its stream lasts."""

    def __init__(self, features: tuple[str, ...], session: Session, identity: Callable[[], Identity]) -> None:
        """Prepare; ``identity`` returns the credentials of the moment, whose token may be newer than the stream's."""
        self._features = features
        self._session = session
        self._identity = identity

    @property
    def features(self) -> tuple[str, ...]:
        """Abilities of the server; an existing one has none."""
        return self._features

    async def upload_inventory(self, chunks: Iterable[InventoryChunk]) -> int:
        """Upload a scan; return how many packages the server has stored.

        Raises:
            AgentError: it was not stored; nothing on the server has changed.
        """
        return await self._session.upload_inventory(self._identity(), chunks)


class WorkUndone:
    """Fulfils `work.Works` by doing nothing, and says so once for each kind."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def connected(self, link: Link) -> None:
        """Nothing here needs it."""

    def take(self, work: Work) -> None:
        """Say what is not done."""
        asked = {"checks": work.checks, "queries": work.queries, "a task": work.task}
        note_undone((kind for kind, what in asked.items() if what), self._told)

    def disconnected(self) -> None:
        """Nothing here waits for it."""


class NothingToDeliver:
    """Fulfils `conversation_parts.Delivers` by having nothing."""

    @property
    def position(self) -> Position | None:
        """There is no outbox."""
        return None

    def begin(self, welcome: Welcome | None, agent_id: str) -> None:
        """Nothing here depends on it."""

    async def next_batch(self) -> Batch | None:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()
        return None

    def answered(self, ack: BatchAck) -> None:
        """Nothing was sent."""

    def heartbeat_answered(self) -> None:
        """Nothing waits for it."""

    def take_carried(self) -> bytes:
        """Return nothing."""
        return b""

    async def put_samples(self, samples: Sequence[TimedSample]) -> None:
        """Drop them: nobody gathers in a single run (`samples.TakesSamples`)."""


def note_undone(kinds: Iterable[str], told: set[str]) -> None:
    """Log each kind of pushed work that is not done, once for a set of kinds already told."""
    for kind in kinds:
        if kind not in told:
            told.add(kind)
            _log.warning("the server asks for %s, which this version of the agent does not do", kind)

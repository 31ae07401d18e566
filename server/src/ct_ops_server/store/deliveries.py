"""Deliveries: what agents bring home, stored together with the number that says so.

One kind of write for numbered batches and for the results of existing agents, which have no number. For a
whole group, in one transaction:

1. *Fence*: the rows of the agents whose generation is current and whose status is active, kept from
   changing until the commit. So nothing of an older stream, or of a revoked agent, is ever committed
   after its successor, or its revocation, was (rule 18).
2. *Advance*: positions move (``store.positions``). What did not move is not the next batch: told what it is.
3. *Store* the items of those that moved, each by the writer of its type (``store.item_writers``); record
   what was refused. What agents say of their collectors is stored whether they moved or not.

A group that the database refuses is taken apart by the writer. A delivery that it refuses even alone must not
block its agent for ever, so its items are then tried in halves, in savepoints, and the culprits are refused
like any other item (rules 15 and 16). Edges make every value storable; this is for what nobody thought of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.delivery import (
    FENCED,
    Delivered,
    Delivery,
    Position,
    RefusedItems,
    StoredGap,
    Verdict,
    verdict_on,
)
from ct_ops_server.fleet.items import NOBODYS_FAULT, Item, ItemRefused, Owned
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.ports import WriteRefusedError
from ct_ops_server.store import positions
from ct_ops_server.store.collectors import store_reports
from ct_ops_server.store.database import Database
from ct_ops_server.store.faults import Fault, fault_of
from ct_ops_server.store.gaps import read_gaps
from ct_ops_server.store.item_refusals import Refused, read_refused_items, record_refusals, refused_item
from ct_ops_server.store.items import ItemWriter, apply_items
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, agents
from ct_ops_server.store.writer import GroupWriter

MOST_SAVEPOINTS = 64
"""Tries at the items of one delivery that the database refuses; what is left then is refused unseen, for a
savepoint is a round trip and everybody else is waiting."""

_NOT_STORABLE = "not_storable"
_ITEMS_OF_A_WRITE = 20
"""So many items take about as long to store as one heartbeat."""

_stream = row_set("stream", agent_id=sa.Text(), generation=Integer64)
_FENCE = (
    sa.select(agents.c.id)
    .join(_stream, sa.and_(agents.c.id == _stream.c.agent_id, agents.c.generation == _stream.c.generation))
    .where(agents.c.status == AgentStatus.ACTIVE.value)
    .order_by(agents.c.id)
    .with_for_update(read=True, of=agents)
)


@dataclass(frozen=True, slots=True)
class _Applied:
    """What became of the items of one delivery."""

    refused: tuple[ItemRefused, ...]
    records: tuple[Refused, ...]


class StoreDeliveries:
    """The kind of write, for a group."""

    name = "delivery"

    def __init__(self, writers: Mapping[type[Item], ItemWriter]) -> None:
        self._writers = writers

    async def apply(self, connection: AsyncConnection, writes: Sequence[Delivery]) -> Sequence[Delivered]:
        """Store the deliveries of a group, at most one of an agent."""
        live = await _fence(connection, writes)
        numbered = {
            each.agent_id: each.number for each in writes if each.number is not None and each.agent_id in live
        }
        moved = await positions.advance(connection, numbered)
        stuck = {agent_id: number for agent_id, number in numbered.items() if agent_id not in moved}
        found = await positions.find(connection, stuck)
        fresh = [each for each in writes if each.agent_id in live and each.agent_id not in stuck]
        applied = await self._store(connection, fresh)
        await store_reports(
            connection,
            {
                each.agent_id: each.collectors
                for each in writes
                if each.collectors is not None and each.agent_id in live
            },
        )
        return [
            applied[each.agent_id]
            if each.agent_id in applied
            else _told(each, found[each.agent_id])
            if each.agent_id in live
            else FENCED
            for each in writes
        ]

    async def _store(self, connection: AsyncConnection, fresh: Sequence[Delivery]) -> dict[str, Delivered]:
        owned = [Owned(each.agent_id, item) for each in fresh for _, item in each.items]
        outcomes = iter(await self._apply_items(connection, owned))
        applied = {each.agent_id: _applied(each, outcomes) for each in fresh}
        await record_refusals(connection, (record for each in applied.values() for record in each.records))
        return {
            each.agent_id: Delivered(
                Verdict.STORED, _reached(each), applied[each.agent_id].refused, is_new=True
            )
            for each in fresh
        }

    async def _apply_items(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        return await apply_items(connection, owned, self._writers)


class StoreStubbornDelivery(StoreDeliveries):
    """The same for one delivery that the database refuses as a whole: its items in halves."""

    async def _apply_items(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        outcomes: dict[int, str | None] = {}
        parts, tries = [range(len(owned))], 0
        while parts:
            part = parts.pop()
            tries += 1
            found = await self._try(connection, [owned[place] for place in part], tries)
            if found is None and len(part) > 1 and tries < MOST_SAVEPOINTS:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                outcomes.update(zip(part, found or [_NOT_STORABLE] * len(part), strict=True))
        return [outcomes[place] for place in range(len(owned))]

    async def _try(
        self, connection: AsyncConnection, owned: Sequence[Owned], tries: int
    ) -> Sequence[str | None] | None:
        """Store some items in a savepoint. None: the database refuses one of them."""
        if tries > MOST_SAVEPOINTS:
            return None
        try:
            async with connection.begin_nested():
                return await apply_items(connection, owned, self._writers)
        except Exception as error:
            if fault_of(error) is not Fault.REFUSED:
                raise
            return None


class SqlDeliveryStore:
    """``fleet.delivery.DeliveryStore``."""

    def __init__(
        self, database: Database, writer: GroupWriter, writers: Mapping[type[Item], ItemWriter]
    ) -> None:
        self._database = database
        self._writer = writer
        self._usual, self._stubborn = StoreDeliveries(writers), StoreStubbornDelivery(writers)

    async def deliver(self, delivery: Delivery) -> Delivered:
        """Store a delivery; returns after the commit.

        Raises:
            StoreUnavailableError: nothing is known of it; the same delivery may be tried again.
        """
        try:
            return await self._writer.submit(
                self._usual,
                delivery,
                key=delivery.agent_id,
                weight=1 + len(delivery.items) // _ITEMS_OF_A_WRITE,
            )
        except WriteRefusedError:
            (outcome,) = await self._writer.run(
                lambda connection: self._stubborn.apply(connection, [delivery])
            )
            return outcome

    async def position(self, agent_id: str, outbox_id: bytes) -> Position:
        """Return how far an outbox was stored. Complete when a stream has been opened before."""
        async with self._database.reading() as connection:
            return await positions.read(connection, agent_id, outbox_id)

    async def gaps(self, agent_id: str) -> Sequence[StoredGap]:
        """Return the gaps that are kept, newest first."""
        async with self._database.reading() as connection:
            return await read_gaps(connection, agent_id)

    async def refused_items(self, agent_id: str) -> Sequence[RefusedItems]:
        """Return what was refused of an agent, latest first."""
        async with self._database.reading() as connection:
            return await read_refused_items(connection, agent_id)

    @property
    def load(self) -> float:
        """Share of the room for waiting batches that is taken, 0 to 1."""
        return self._writer.load


async def _fence(connection: AsyncConnection, writes: Sequence[Delivery]) -> frozenset[str]:
    rows = [{"agent_id": each.agent_id, "generation": each.generation} for each in writes]
    return frozenset(await connection.scalars(_FENCE, bind_rows("stream", rows)))


def _applied(delivery: Delivery, outcomes: Iterator[str | None]) -> _Applied:
    refused = [ItemRefused(each.index, each.reason) for each in delivery.malformed]
    records = [
        Refused(delivery.agent_id, each.kind, each.reason, each.example) for each in delivery.malformed
    ]
    for (index, item), reason in zip(delivery.items, outcomes, strict=False):
        if reason is not None:
            refused.append(ItemRefused(index, reason))
            if reason not in NOBODYS_FAULT:
                records.append(refused_item(delivery.agent_id, item, reason))
    return _Applied(tuple(sorted(refused, key=lambda each: each.index)), tuple(records))


def _reached(delivery: Delivery) -> Position:
    number = delivery.number
    return Position() if number is None else Position(number.seq, number.digest)


def _told(delivery: Delivery, found: Position) -> Delivered:
    """Return the outcome of a batch that did not move its outbox."""
    assert delivery.number is not None
    return Delivered(verdict_on(delivery.number, found) or Verdict.MISMATCH, found)

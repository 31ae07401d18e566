"""Who stores which item: one writer a type, the same for numbered batches and for existing agents' frames.

Writers run inside the transaction of a group, on the items of many agents at once, one set-based statement
each. They never raise for an item that is merely wrong (somebody else's check, an unknown task): they
return why it is refused, and the others are stored. So nothing an agent sends can block its delivery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.items import Item, Owned


class ItemWriter(Protocol):
    """Stores the items of one type."""

    async def apply(self, connection: AsyncConnection, owned: Sequence[Owned]) -> Sequence[str | None]:
        """Store them; return for each why it was refused, None when it is stored (or already was)."""


async def apply_items(
    connection: AsyncConnection, owned: Sequence[Owned], writers: Mapping[type[Item], ItemWriter]
) -> Sequence[str | None]:
    """Store items of any type, each by the writer of its type; return for each why it was refused.

    Writers run in the order of ``writers``, which is the same in every process: two groups lock tables and
    rows in the same order. An item of a type that nobody writes is refused as ``unsupported``.
    """
    outcomes: list[str | None] = ["unsupported"] * len(owned)
    for kind, writer in writers.items():
        places = [place for place, each in enumerate(owned) if type(each.item) is kind]
        if places:
            found = await writer.apply(connection, [owned[place] for place in places])
            for place, outcome in zip(places, found, strict=True):
                outcomes[place] = outcome
    return outcomes

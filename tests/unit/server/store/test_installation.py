"""Who the installation is."""

from __future__ import annotations

import asyncio

from ct_ops_server.store.installation import InstallationStore
from ct_ops_server.store.opening import Store


async def test_an_installation_is_decided_once(store: Store) -> None:
    """Whoever opens it later, or at the same moment, finds the same one."""
    stores = [
        InstallationStore(
            store.database,
            store.writer,
            new_id=str(number).__str__,
            new_store_id=bytes([number] * 16).__bytes__,
        )
        for number in range(5)
    ]
    installations = await asyncio.gather(*(one.open() for one in stores))

    assert 1 == len(set(installations))
    assert 16 == len(installations[0].store_id)
    assert installations[0] == await store.installation.open()

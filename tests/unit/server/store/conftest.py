from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ct_ops_server.store.opening import Store, open_store


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A new store on each database."""
    async with open_store(database_url) as opened:
        yield opened

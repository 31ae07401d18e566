from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_world import World, new_world
from ct_ops_server.config.schema import Settings
from databases import PostgresServer, drop_database, migrated_database
from real_server import RealServer, real_server, settings_for


@pytest.fixture(params=["sqlite", "postgresql"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Settings]:
    if request.param == "sqlite":
        yield settings_for(tmp_path / "server")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = await migrated_database(server)
    yield settings_for(tmp_path / "server", url)
    await drop_database(url)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[RealServer]:
    async with real_server(settings) as running:
        yield running


@pytest.fixture
async def sqlite_server(tmp_path: Path) -> AsyncIterator[RealServer]:
    async with real_server(settings_for(tmp_path / "server")) as running:
        yield running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with new_world(tmp_path) as made:
        yield made

"""Databases for every test that wants one: see ``databases``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from databases import PostgresServer, drop_database, fresh_database, migrated_database, postgres_server
from long_tests import long_ones_first
from memory_folder import memory_folder
from replayed_migrations import replayed_migrations

# A build is red or green for what was changed, never for the dice or a busy machine.
settings.register_profile("build", derandomize=True, deadline=None)
settings.load_profile("build")

if "TMPDIR" not in os.environ and (_folder := memory_folder()) is not None:
    tempfile.tempdir = str(_folder)


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes `-n auto` means: tests of real servers wait as much as they compute."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with what takes long: tests that are given more time than others."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        long = [item for item in items if item.get_closest_marker("timeout")]
        others = [item for item in items if not item.get_closest_marker("timeout")]
        items[:] = long_ones_first(long, others, processes)


@pytest.fixture(scope="session", autouse=True)
def _quick_migrations() -> Iterator[None]:
    with replayed_migrations():
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        running.trust_the_power()
        yield running


@pytest.fixture
async def postgres_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """The address of a database that has the schema and nothing in it."""
    url = await migrated_database(postgres)
    yield url
    await drop_database(url)


@pytest.fixture
async def empty_postgres_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """The address of a database without a schema, for whoever makes one."""
    url = await fresh_database(postgres.url)
    yield url
    await drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/ct-ops.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of each sort with nothing in it; the one of PostgreSQL has its schema."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url

"""What a command waits for before it does anything: the modules that it imports.

The server's libraries take a second, which an operator waits with every command, and a script with every line.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ct_ops_server.config.schema import Settings
from real_server import RealServer, real_server

SERVER_ONLY = {"alembic", "fastapi", "grpc", "pydantic", "sqlalchemy", "starlette", "uvicorn"}
HEAVY = SERVER_ONLY | {"cryptography", "httpx"}


def imported(data_dir: Path, *arguments: str) -> set[str]:
    """Run a command in a fresh interpreter; return the packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ct_ops_server", *arguments],
        env={"PATH": os.environ["PATH"], "INGEST_DATA_DIR": str(data_dir)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-1000:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_the_list_of_commands_needs_nothing_of_a_server(tmp_path: Path) -> None:
    """Nor the name of the version."""
    for arguments in (["--help"], ["--version"]):
        assert not imported(tmp_path, *arguments) & SERVER_ONLY


@pytest.mark.parametrize("words", ["token create", "agent approve", "check add", "audit verify", "ca rotate"])
def test_help_for_one_command_imports_that_command(tmp_path: Path, words: str) -> None:
    """And no other, which would each bring what it prints with."""
    assert not imported(tmp_path, *words.split(), "--help") & HEAVY


@pytest.fixture
async def server(sqlite_settings: Settings) -> AsyncIterator[RealServer]:
    async with real_server(sqlite_settings) as running:
        yield running


@pytest.mark.parametrize(
    "words", ["token list", "agent list", "check list", "ca status", "audit list", "clones list", "task list"]
)
async def test_a_running_server_is_asked_without_its_libraries(server: RealServer, words: str) -> None:
    """It has imported them itself."""
    found = await asyncio.to_thread(imported, server.settings.data_dir, *words.split())

    assert "httpx" in found
    assert not found & (SERVER_ONLY | {"cryptography"})


async def test_without_a_server_a_current_database_needs_no_migrations(sqlite_settings: Settings) -> None:
    """Alembic is for a schema that is not there yet, and nobody is served."""
    async with real_server(sqlite_settings):
        pass
    found = imported(sqlite_settings.data_dir, "token", "list")

    assert "sqlalchemy" in found
    assert not found & {"alembic", "grpc", "uvicorn"}

"""Healthy means delivered: a real agent whose heartbeats flow while a collector's data does not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prepared_commands import start
from real_server import RealServer

CONFIG = """
[agent]
heartbeat_interval_secs = 5

[[collectors.exec]]
name = "backup"
command = ["{program}"]
interval = "1s"
timeout = "5s"
format = "json"
"""


@asynccontextmanager
async def agent_process(server: RealServer, folder: Path, program: Path) -> AsyncIterator[None]:
    """Run an agent, with a program of its operator's as a collector."""
    config = folder / "agent.toml"
    config.write_text(CONFIG.format(program=program))
    environ = {
        "PATH": os.environ["PATH"],
        "CT_OPS_DATA_DIR": str(folder / "agent"),
        "CT_OPS_INGEST_ADDRESS": f"127.0.0.1:{server.wire.port}",
        "CT_OPS_ENROLMENT_TOKEN": await server.token(),
    }
    process = await start("ct_ops_agent", "run", "--config", str(config), environ=environ, reads=False)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def agent_where(server: RealServer, *, is_degraded: bool) -> dict[str, Any]:
    """Return the one agent's sheet once its collector has been heard of, degraded or not as is wanted."""
    async with asyncio.timeout(60):
        while True:
            for found in await server.ask("GET", "/v1/agents"):
                sheet: dict[str, Any] = await server.ask("GET", f"/v1/agents/{found['id']}")
                heard_of = "backup" in {each["name"] for each in sheet["collectors"]}
                if heard_of and bool(sheet["degraded"]) is is_degraded and found["online"]:
                    return sheet
            await asyncio.sleep(0.2)


async def values_of(server: RealServer, agent_id: str, name: str) -> list[float]:
    """Return the newest value of each series of that name, once there is one: samples come in a batch of their own."""
    async with asyncio.timeout(60):
        while True:
            series = await server.ask("GET", f"/v1/agents/{agent_id}/series")
            if found := [each["latest_value"] for each in series if each["name"] == name]:
                return found
            await asyncio.sleep(0.2)


async def test_a_host_is_degraded_for_as_long_as_a_collector_fails(
    sqlite_server: RealServer, tmp_path: Path
) -> None:
    """It says so itself, with what the program wrote; and it is healthy again when the program is."""
    program = tmp_path / "backup-state"
    program.write_text("#!/bin/sh\necho 'the log is gone' >&2; exit 3\n")
    program.chmod(0o755)
    async with agent_process(sqlite_server, tmp_path, program):
        degraded = await agent_where(sqlite_server, is_degraded=True)
        repaired = tmp_path / "new"
        repaired.write_text('#!/bin/sh\necho \'{"name": "age_seconds", "value": 42, "unit": "s"}\'\n')
        repaired.chmod(0o755)
        repaired.rename(program)
        healthy = await agent_where(sqlite_server, is_degraded=False)
        values = await values_of(sqlite_server, healthy["id"], "backup.age_seconds")

    assert {"collector_problem"} == {each["reason"] for each in degraded["degraded"]}
    assert "backup" in degraded["degraded"][0]["sentence"]
    assert degraded["vitals"] is not None
    assert "numbered" == healthy["delivery"]
    assert [42.0] == values

"""``query``, ``task`` and ``packages`` from a shell: with an existing agent, and with ours as a process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from prepared_commands import finished, start
from real_server import RealServer
from work_wire import BASH, CURL, connected, scan


@dataclass(frozen=True)
class Shell:
    """A shell on the server's host."""

    server: RealServer

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end; return exit code, output and errors."""
        environment = {"PATH": os.environ["PATH"], "INGEST_DATA_DIR": str(self.server.settings.data_dir)}
        done = await finished("ct_ops_server", *arguments, environ=environment)
        return done.returncode, done.stdout, done.stderr

    async def ctl(self, *arguments: str) -> Any:
        """Return what a command prints as JSON."""
        code, output, errors = await self.run(*arguments, "--json")
        assert 0 == code, errors
        return json.loads(output)


@pytest.fixture
def shell(sqlite_server: RealServer) -> Shell:
    return Shell(sqlite_server)


@asynccontextmanager
async def our_agent(server: RealServer, folder: Path) -> AsyncIterator[None]:
    """Run our agent as a process; it is connected when the block begins."""
    toml = folder / "agent.toml"
    toml.write_text(
        f'[ingest]\naddress = "127.0.0.1:{server.wire.port}"\n'
        f'[agent]\ndata_dir = "{folder / "agent"}"\nheartbeat_interval_secs = 1\nhostname = "ours"\n'
        f'enrolment_token = "{await server.token()}"\n'
    )
    process = await start(
        "ct_ops_agent", "-config", str(toml), environ={"PATH": os.environ["PATH"]}, reads=False
    )
    try:
        async with asyncio.timeout(60):
            while not any(  # noqa: ASYNC110  it is another process
                agent["online"] for agent in await server.ask("GET", "/v1/agents")
            ):
                await asyncio.sleep(0.1)
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_our_agent_answers_scans_and_reports(shell: Shell, tmp_path: Path) -> None:
    """A question, a task that is followed to its end, and what the host has installed."""
    async with our_agent(shell.server, tmp_path):
        code, ports, errors = await shell.run("query", "ours", "list_ports")
        assert (0, "") == (code, errors)
        assert str(shell.server.wire.port) in ports
        code, said, errors = await shell.run("task", "run", "ours", "software_inventory", "--wait")
        assert 0 == code, errors
        assert said
        assert errors.endswith(": done\n")
        (task,) = await shell.ctl("task", "list", "ours")
        found = await shell.ctl("packages", "ours")
        bash = await shell.ctl("packages", "ours", "bash")

    assert ("done", 1, 0) == (task["state"], task["attempt"], task["exit_code"])
    assert len(found) > 50
    assert ["bash"] == [package["name"] for package in bash]


async def test_a_query_prints_a_table(shell: Shell) -> None:
    """Ports by number; a dash where the agent may not see the process."""
    host = await shell.server.enrolled("host-1")
    async with connected(shell.server.wire, host) as agent:
        asking = asyncio.create_task(shell.run("query", "host-1", "list_ports"))
        ports = [
            wire.PortInfo(port=443, protocol="tcp", process=""),
            wire.PortInfo(port=22, protocol="tcp", process="sshd"),
        ]
        await agent.answer(await agent.query(), *ports)

    assert (0, "PORT  PROTOCOL  PROCESS\n22    tcp       sshd\n443   tcp       -\n", "") == await asking


async def test_a_query_without_an_answer_says_what_to_do(shell: Shell) -> None:
    """69 when the host is offline or silent, 1 when its agent could not find out."""
    host = await shell.server.enrolled("host-1")
    code, _, errors = await shell.run("query", "host-1", "list_services")
    assert 69 == code
    assert "is offline" in errors
    async with connected(shell.server.wire, host) as agent:
        code, _, errors = await shell.run("query", "host-1", "list_services", "--timeout", "1s")
        assert 69 == code
        assert "did not answer within 1s" in errors
        asking = asyncio.create_task(shell.run("query", "host-1", "list_ports"))
        while (query := await agent.query()).query_type != "list_ports":
            pass
        await agent.answer(query, error="ss: command not found")
        code, _, errors = await asking

    assert 1 == code
    assert "could not find out: ss: command not found" in errors


async def test_a_task_is_followed_while_it_speaks(shell: Shell) -> None:
    """What it says goes to the output, where it is to the errors; the exit code is its own."""
    host = await shell.server.enrolled("host-1")
    async with connected(shell.server.wire, host) as agent:
        running = asyncio.create_task(shell.run("task", "run", "host-1", "software_inventory", "--wait"))
        task = await agent.task()
        await agent.say(task, "reading dpkg\n")
        await agent.say(task, "2 packages\n")
        await agent.upload(scan(task.task_id, BASH, CURL))
        await agent.end(task, exit_code=3, error="the disk is full")
        code, said, errors = await running
        _, shown, _ = await shell.run("task", "show", task.task_id[:6])

    assert (3, "reading dpkg\n2 packages\n") == (code, said)
    assert "failed with exit code 3: the disk is full" in errors
    assert "reading dpkg" in shown
    assert "the disk is full" in shown


async def test_a_task_for_a_host_that_is_offline_waits_and_can_be_taken_back(shell: Shell) -> None:
    """Without --wait the command says what it waits for."""
    await shell.server.enrolled("host-1")
    code, said, _ = await shell.run("task", "run", "host-1", "software_inventory", "--expires", "5m")
    assert 0 == code
    assert "waiting for host-1" in said
    (task,) = await shell.ctl("task", "list")
    cancelled = await shell.ctl("task", "cancel", task["id"][:8])

    assert "cancelled" == cancelled["state"]
    assert [] == await shell.ctl("packages", "host-1")
    _, table, _ = await shell.run("task", "list", "host-1")
    assert "cancelled" in table


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("query", "nobody", "list_ports"), 1, "no agent has the id"),
        (("query", "host-1", "list_secrets"), 2, "'list_secrets' is not one of"),
        (("query", "host-1", "list_ports", "--timeout", "soon"), 2, "is no duration"),
        (("query", "host-1", "list_ports", "--timeout", "1d"), 2, "expires_in_s"),
        (("task", "run", "host-1", "custom_script"), 2, "agents do software_inventory"),
        (("task", "run", "host-1", "software_inventory", "--expires", "5s"), 1, "between one minute"),
        (("task", "show", "nothing"), 1, "no task has the id"),
        (("task", "cancel", "nothing"), 1, "no task has the id"),
        (("packages", "nobody"), 1, "no agent has the id"),
    ],
)
async def test_what_cannot_be_done_is_a_sentence(
    shell: Shell, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """And an exit code that scripts can tell apart."""
    await shell.server.enrolled("host-1")
    found, _, errors = await shell.run(*arguments)

    assert code == found
    assert sentence in errors

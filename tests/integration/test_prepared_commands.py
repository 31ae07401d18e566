"""A prepared command is a process of its own, as far as a test of a command can tell."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prepared_commands import finished, run, start
from worker_processes import environment_for


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "INGEST_DATA_DIR": str(tmp_path / "server")}


@pytest.mark.parametrize(
    "words",
    [
        ("ct_ops_server", "--version"),
        ("ct_ops_server", "token", "--help"),
        ("ct_ops_server", "token", "create"),
        ("ct_ops_server", "token", "show", "nobody"),
        ("ct_ops_server", "config", "show", "--json"),
        ("ct_ops_agent", "--help"),
        ("ct_ops_agent", "status", "--json"),
    ],
)
def test_it_says_what_a_fresh_interpreter_says(environ: dict[str, str], words: tuple[str, ...]) -> None:
    """Word for word, on the same stream, with the same exit code."""
    fresh = subprocess.run(
        [sys.executable, "-m", *words], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    prepared = run(*words, environ=environ)

    assert (fresh.returncode, fresh.stdout, fresh.stderr) == (
        prepared.returncode,
        prepared.stdout,
        prepared.stderr,
    )


def test_it_reads_what_is_said_to_it(environ: dict[str, str]) -> None:
    """On its standard input."""
    token = json.loads(
        run("ct_ops_server", "token", "create", "--label", "x", "--json", environ=environ).stdout
    )
    shown = run("ct_ops_server", "token", "decode", "-", environ=environ, said=token["token"])

    assert 0 == shown.returncode, shown.stderr
    assert token["token"] not in shown.stdout


async def test_commands_run_beside_one_another_each_in_its_own_environment(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Each of them sees its own data directory."""
    folders = [tmp_path / str(number) for number in range(3)]
    done = await asyncio.gather(
        *(
            finished(
                "ct_ops_server", "config", "show", "--json", environ={**environ, "INGEST_DATA_DIR": str(each)}
            )
            for each in folders
        )
    )

    assert [str(each) in said.stdout for each, said in zip(folders, done, strict=True)] == [True] * 3
    assert str(folders[0]) not in done[1].stdout


async def test_it_is_signalled_and_its_end_is_known(tmp_path: Path) -> None:
    """A server stops in order on SIGTERM, and is gone after SIGKILL; nothing but it hears the signal."""
    ends = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        server = await start("ct_ops_server", "serve", environ=environment_for(tmp_path / number.name, ""))
        assert server.stdout is not None
        assert b"ready grpc_port=" in await server.stdout.readline()
        assert server.returncode is None
        server.send_signal(number)
        await server.communicate()
        ends.append(await server.wait())

    assert [0, -signal.SIGKILL] == ends

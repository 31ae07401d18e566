"""Checks from a shell, with and without a running server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import prepared_commands
from ct_ops_proto.checks import CHECK_TYPES
from ct_ops_server.config.schema import Settings
from real_server import real_server


def run(data_dir: Path, *arguments: str, said: str = "", url: str = "") -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(data_dir.parent),
        "INGEST_DATA_DIR": str(data_dir),
        "DATABASE_URL": url,
    }
    return prepared_commands.run("ct_ops_server", "check", *arguments, environ=environ, said=said)


@pytest.fixture
async def data_dir(sqlite_settings: Settings) -> Path:
    """An installation with one agent, whose server has stopped."""
    async with real_server(sqlite_settings) as server:
        await server.enrolled("web-1")
    return sqlite_settings.data_dir


def ctl(data_dir: Path, *arguments: str, said: str = "") -> Any:
    done = run(data_dir, *arguments, "--json", said=said)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


async def test_a_check_is_defined_listed_shown_switched_and_removed(data_dir: Path) -> None:
    """All of it without a running server; a person is asked before a check goes."""
    made = ctl(
        data_dir, "add", "web-1", "port", "host=127.0.0.1", "port=22", "--interval", "30s", "--name", "ssh"
    )
    listed = run(data_dir, "list").stdout
    shown = run(data_dir, "show", "ssh").stdout
    disabled = ctl(data_dir, "disable", "ssh")
    again = run(data_dir, "disable", made["id"][:6]).stdout
    enabled = ctl(data_dir, "enable", "ssh")
    asked = run(data_dir, "remove", "ssh", said="n\n")
    removed = ctl(data_dir, "remove", "ssh", "--yes")

    assert ({"host": "127.0.0.1", "port": 22}, 30, None) == (
        made["config"],
        made["interval_s"],
        made["timeout_s"],
    )
    assert all(word in listed for word in ("web-1", "ssh", "30s", "waiting", "never"))
    assert "config.port" in shown
    assert (False, True) == (disabled["enabled"], enabled["enabled"])
    assert "is disabled already" in again
    assert (1, "Remove ssh") == (asked.returncode, asked.stderr[:10])
    assert made["id"] == removed["id"]
    assert "no checks yet" in run(data_dir, "list", "web-1").stdout


async def test_a_secret_comes_from_a_file_or_standard_input_and_is_never_printed(data_dir: Path) -> None:
    """On the command line it works and warns."""
    file = data_dir.parent / "check.json"
    file.write_text(json.dumps({"file_path": "/a.p12", "format": "pkcs12", "password": "hunter2"}))
    from_file = run(data_dir, "add", "web-1", "cert_file", "--config", str(file))
    from_input = run(data_dir, "add", "web-1", "cert_file", "alias=x", "--config", "-", said=file.read_text())
    in_sight = run(data_dir, "add", "web-1", "cert_file", "file_path=/b", "format=jks", "password=hunter2")
    header = run(data_dir, "add", "web-1", "http", "url=https://h/", "headers.Authorization=Bearer hunter2")
    listed = ctl(data_dir, "list")
    printed = "".join(done.stdout + done.stderr for done in (from_file, from_input, in_sight, header))

    assert [0, 0, 0, 0] == [done.returncode for done in (from_file, from_input, in_sight, header)]
    assert [False, False, True, True] == [
        "warning" in done.stderr for done in (from_file, from_input, in_sight, header)
    ]
    assert "hunter2" not in printed + json.dumps(listed)
    assert "an existing agent ignores headers" in header.stderr
    assert {"Authorization": "********"} == listed[-1]["config"]["headers"]
    assert b"hunter2" not in (data_dir / "ct-ops.db").read_bytes()


async def test_all_that_is_wrong_is_said_at_once(data_dir: Path) -> None:
    """By key, with the nearest name, and with exit code 2."""
    done = run(
        data_dir,
        "add",
        "web-1",
        "http",
        "ulr=https://h/",
        "expected_status=7",
        "method=get",
        "--interval",
        "5s",
    )

    assert 2 == done.returncode
    for said in (
        "did you mean url?",
        "expected_status: must be",
        "GET, HEAD",
        "interval: must be whole seconds",
    ):
        assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("add", "nobody", "process", "process_name=x"), 1, "agent list"),
        (("add", "web-1", "prot", "port=1"), 2, "did you mean port?"),
        (("add", "web-1", "port", "port"), 2, "is no KEY=VALUE"),
        (("add", "web-1", "port", "=1"), 2, "is no KEY=VALUE"),
        (("add", "web-1", "port", "port=1", "port=2"), 2, "'port' is given twice"),
        (("add", "web-1", "http", "headers=x", "headers.A=b"), 2, "'headers.A' is given twice"),
        (("add", "web-1", "port", "--config", "/no/such/file"), 2, "cannot be read"),
        (("add", "web-1", "port", "--interval", "60"), 2, "30s, 5m, 12h, 7d"),
        (("add", "web-1", "port", "host=h", "port=1", "--timeout", "2m"), 2, "longer than the interval"),
        (("show", "nothing"), 1, "check list"),
        (("remove", "nothing", "--yes"), 1, "check list"),
        (("enable", "nothing"), 1, "check list"),
        (("results", "nothing"), 1, "agent list"),
        (("results", "web-1", "--since", "soon"), 2, "--since"),
        (("list", "nothing"), 1, "agent list"),
    ],
)
async def test_a_mistake_gets_a_sentence_and_its_exit_code(
    data_dir: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """No traceback, and what to do."""
    done = run(data_dir, *arguments)

    assert code == done.returncode, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_help_names_every_type(data_dir: Path) -> None:
    """An operator finds out from the command itself what there is."""
    said = run(data_dir, "add", "--help").stdout

    assert all(check_type in said for check_type in CHECK_TYPES)


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000])
async def test_a_file_that_holds_no_object_is_refused(data_dir: Path, text: str) -> None:
    """Whatever is in it."""
    done = run(data_dir, "add", "web-1", "port", "--config", "-", said=text)

    assert 2 == done.returncode
    assert "Traceback" not in done.stderr


async def test_a_running_server_is_asked_and_nothing_else(sqlite_settings: Settings) -> None:
    """The same words, the same answers."""
    async with real_server(sqlite_settings) as server:
        await server.enrolled("web-1")
        made = await asyncio.to_thread(
            ctl, sqlite_settings.data_dir, "add", "web-1", "process", "process_name=sshd"
        )
        results = await asyncio.to_thread(
            run, sqlite_settings.data_dir, "results", made["id"], "--since", "1h"
        )

        assert [made["id"]] == [check["id"] for check in await server.ask("GET", "/v1/checks?agent=web-1")]
    assert "no results" in results.stdout

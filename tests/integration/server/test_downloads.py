"""What hosts download, over both ports of a real server."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from ct_ops_server.cli.root import main
from ct_ops_server.config.schema import Settings
from ct_ops_server.releases.shelf import Shelf
from real_server import RealServer, real_server
from unit.server.releases.programs import elf

ARCHIVE = "ct-ops-agent-linux-amd64-v0.1.0.tar.gz"
CONTENT = b"\x1f\x8b\x08" + bytes(range(256)) * 40
PLATFORM = "os=linux&arch=amd64"


@asynccontextmanager
async def client_of(server: RealServer, port: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the agent port, as curl offers itself, or of the local one."""
    if port == "local":
        base, verify = f"http://127.0.0.1:{server.http_port}", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        base, verify = (
            f"https://localhost:{server.wire.port}",
            ssl.create_default_context(cadata=server.wire.ca_pem),
        )
        verify.set_alpn_protocols(["h2", "http/1.1"])
    async with httpx.AsyncClient(base_url=base, verify=verify) as client:
        yield client


def stocked(settings: Settings, folder: Path) -> Shelf:
    """A shelf with one archive and one program."""
    shelf = Shelf(settings.agent_dist_dir)
    for name, content in ((ARCHIVE, CONTENT), ("ct-ops-agent-linux-amd64-v0.30.2", elf(text=b"0.30.2"))):
        (folder / name).write_bytes(content)
        shelf.add(folder / name, shelf.describe(folder / name), None)
    return shelf


@pytest.fixture
async def server(sqlite_settings: Settings, tmp_path: Path) -> AsyncIterator[RealServer]:
    stocked(sqlite_settings, tmp_path)
    async with real_server(sqlite_settings) as running:
        yield running


@pytest.mark.parametrize("port", ["local", "agents"])
async def test_an_archive_is_downloaded_whole_in_part_and_not_at_all(server: RealServer, port: str) -> None:
    """GET, Range, HEAD and If-None-Match's ground, on both ports, each with what verifies it."""
    path = f"/api/agent/download?{PLATFORM}&format=tar.gz"
    async with client_of(server, port) as client:
        whole = await client.get(path)
        part = await client.get(path, headers={"Range": "bytes=100-199"})
        head = await client.head(path)

    assert (200, CONTENT) == (whole.status_code, whole.content)
    assert (206, CONTENT[100:200]) == (part.status_code, part.content)
    assert (200, b"", str(len(CONTENT))) == (head.status_code, head.content, head.headers["content-length"])
    assert f'"{whole.headers["x-checksum-sha256"]}"' == whole.headers["etag"] == head.headers["etag"]
    assert "0.1.0" == whole.headers["x-agent-version"]
    assert f'filename="{ARCHIVE}"' in whole.headers["content-disposition"]


async def test_an_existing_agent_gets_a_program_or_an_error(server: RealServer) -> None:
    """It puts whatever a 200 carries in its own place."""
    async with client_of(server, "agents") as client:
        program = await client.get(f"/api/agent/download?{PLATFORM}")
        none = await client.get("/api/agent/download?os=linux&arch=arm64")

    assert (200, b"\x7fELF") == (program.status_code, program.content[:4])
    assert 'filename="ct-ops-agent-linux-amd64"' in program.headers["content-disposition"]
    assert 503 == none.status_code
    assert "release add" in none.json()["error"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "os must be one of: linux, darwin, windows"),
        ("os=plan9&arch=mips", "os must be one of: linux, darwin, windows"),
        ("os=linux&arch=mips", "arch must be one of: amd64, arm64"),
        ("os=linux&arch=amd64&format=zip", "format must be one of: tar.gz, tar.xz"),
        ("os=linux&arch=../../etc/passwd", "arch must be one of: amd64, arm64"),
    ],
)
async def test_a_request_for_nothing_that_exists_is_told_so(
    server: RealServer, query: str, error: str
) -> None:
    """In the words of existing servers."""
    async with client_of(server, "local") as client:
        answer = await client.get(f"/api/agent/download?{query}")

    assert (400, {"error": error}) == (answer.status_code, answer.json())


async def test_the_latest_version_is_the_shelfs(server: RealServer) -> None:
    """No server of anybody's is asked; an empty shelf says so."""
    async with client_of(server, "local") as client:
        latest = (await client.get("/api/agent/latest")).json()
        other = await client.get("/api/agent/latest?os=darwin&arch=arm64")

    assert ("0.30.2", "agent/v0.30.2") == (latest["version"], latest["tag"])
    assert 404 == other.status_code


async def test_an_address_may_download_so_often_a_minute(server: RealServer) -> None:
    """And is told when to come back."""
    path = f"/api/agent/download?{PLATFORM}&format=tar.gz"
    async with client_of(server, "agents") as client:
        statuses = [(await client.head(path)).status_code for _ in range(20)]
        refused = await client.get(path)

    assert [200] * 20 == statuses
    assert 429 == refused.status_code
    assert 0 < int(refused.headers["retry-after"]) <= 60


@pytest.mark.parametrize(("trusted", "counted_apart"), [(False, False), (True, True)])
async def test_attack_forwarded_headers_count_only_where_a_proxy_is_trusted(
    sqlite_settings: Settings, tmp_path: Path, *, trusted: bool, counted_apart: bool
) -> None:
    """Else everybody could have a limit of their own by writing another address."""
    stocked(sqlite_settings, tmp_path)
    async with (
        real_server(replace(sqlite_settings, trust_proxy_headers=trusted)) as server,
        client_of(server, "local") as client,
    ):
        statuses = {
            (await client.get("/api/agent/latest", headers={"X-Forwarded-For": f"203.0.113.{n}"})).status_code
            for n in range(11)
        }

    assert ({200} if counted_apart else {200, 429}) == statuses


def run(settings: Settings, *words: str) -> tuple[int, str]:
    """Run an operator's command; return its exit code and what it said."""
    environment = {"INGEST_DATA_DIR": str(settings.data_dir), "AGENT_DIST_DIR": str(settings.agent_dist_dir)}
    result = CliRunner().invoke(main, ["release", *words], env=environment)
    return result.exit_code, result.output


def test_an_operator_adds_lists_and_removes_releases(sqlite_settings: Settings, tmp_path: Path) -> None:
    """With a release key, everything added is signed."""
    sqlite_settings.data_dir.mkdir(parents=True)
    file = tmp_path / ARCHIVE
    file.write_bytes(CONTENT)
    steps = [
        run(sqlite_settings, "list"),
        run(sqlite_settings, "add", str(file)),
        run(sqlite_settings, "key", "init"),
        run(sqlite_settings, "add", str(file)),
        run(sqlite_settings, "show", ARCHIVE),
        run(sqlite_settings, "remove", ARCHIVE),
        run(sqlite_settings, "remove", ARCHIVE),
    ]

    assert [0, 0, 0, 0, 0, 0, 1] == [code for code, _ in steps]
    assert "is empty" in steps[0][1]
    assert "not signed" in steps[1][1]
    assert "not signed" not in steps[3][1]
    assert json.loads(steps[4][1])["signed"] is True
    assert "release list" in steps[6][1]


def test_a_signature_from_another_machine_is_verified_before_it_is_taken(
    sqlite_settings: Settings, tmp_path: Path
) -> None:
    """The private half may stay in a safe; a signature of something else is refused."""
    sqlite_settings.data_dir.mkdir(parents=True)
    file, wrong = tmp_path / ARCHIVE, tmp_path / "wrong.sig"
    file.write_bytes(CONTENT)
    wrong.write_bytes(b"0\x06\x02\x01\x01\x02\x01\x01")
    run(sqlite_settings, "key", "init", "-o", str(tmp_path / "stick.pem"))
    refused = run(sqlite_settings, "add", str(file), "--signature", str(wrong))
    signed = run(sqlite_settings, "add", str(file), "--key", str(tmp_path / "stick.pem"))

    assert (1, 0) == (refused[0], signed[0])
    assert "not by this server's release key" in refused[1]
    assert not (sqlite_settings.data_dir / "release-key.pem").exists()

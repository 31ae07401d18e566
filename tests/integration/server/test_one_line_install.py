"""The one-line install against a real server: real curl, the real front door, a real shell."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.config.schema import Settings
from ct_ops_server.releases.manifest import sign
from ct_ops_server.releases.release_key import load_signing_key, make_release_key
from ct_ops_server.releases.shelf import Shelf
from install_host import STEM, InstallHost, agent_archive
from integration.server.test_downloads import client_of
from real_server import RealServer, real_server

TOKEN = {"CT_OPS_ENROLMENT_TOKEN": "tok_x"}


@dataclass
class Place:
    """A server with an agent on its shelf, and a host that reaches it."""

    server: RealServer
    host: InstallHost
    shelf: Shelf

    async def created(self) -> dict[str, Any]:
        body = {"actor": "test", "label": "test", "auto_approve": True}
        made: dict[str, Any] = await self.server.ask("POST", "/v1/tokens", body)
        return made

    async def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Paste a line into a shell of the host, which has the real curl."""
        return await asyncio.to_thread(self.host.paste, line)


@pytest.fixture
async def place(sqlite_settings: Settings, tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "host").mkdir()
    host = InstallHost(tmp_path / "host")
    sqlite_settings.data_dir.mkdir(mode=0o700)
    make_release_key(sqlite_settings.data_dir, sqlite_settings.data_dir / "release-key.pem")
    settings = replace(sqlite_settings, public_addresses=())
    shelf = Shelf(settings.agent_dist_dir)
    add(shelf, tmp_path, host, load_signing_key(settings.data_dir, None))
    async with real_server(settings) as server:
        yield Place(server, host, shelf)


def add(shelf: Shelf, folder: Path, host: InstallHost, key: ec.EllipticCurvePrivateKey | None) -> None:
    archive = folder / f"{STEM}.tar.gz"
    archive.write_bytes(agent_archive(host.agent))
    manifest = shelf.describe(archive, glibc_floor="2.30")
    shelf.add(archive, manifest, sign(manifest, key) if key else None)


async def test_the_line_that_token_create_gives_installs_the_agent(place: Place) -> None:
    """Downloaded, verified by hash and by the release key, and started with the token that is in the line."""
    made = await place.created()
    done = await place.run(made["install_line"])

    assert 0 == done.returncode, done.stderr
    (call,) = place.host.calls
    assert made["token"] == call["token"]
    assert ["install", "--address", f"127.0.0.1:{place.server.wire.port}"] == call["words"]
    assert ([], None) == (place.host.left_behind, made["install_problem"])


async def test_attack_somebody_between_host_and_server_has_another_key(place: Place) -> None:
    """The line pins the server's key; another one installs nothing, whatever certificate comes with it."""
    line = (await place.created())["install_line"]
    wrong = "sha256//" + base64.b64encode(bytes(32)).decode()
    before, _, after = line.partition("sha256//")
    done = await place.run(before + wrong + after[after.index("'") :])

    assert [] == place.host.calls
    assert "does not match pinned public key" in done.stderr


async def test_attack_an_archive_that_was_tampered_with_installs_nothing(place: Place) -> None:
    """The script knew the shelf as it was: what comes afterwards has another hash."""
    line = (await place.created())["install_line"]
    script = await place.run(line.partition(" | ")[0])
    add(place.shelf, place.host.folder, replace(place.host, agent_exits=9), None)
    done = await asyncio.to_thread(place.host.run, script.stdout, environment=TOKEN, real_curl=True)

    assert (65, []) == (done.returncode, place.host.calls)
    assert "nothing was installed" in done.stderr


async def test_an_empty_shelf_is_said_by_token_create_and_on_the_host(place: Place) -> None:
    """A sentence and an exit code at both ends, and no line that cannot work."""
    place.shelf.remove(f"{STEM}.tar.gz")
    made = await place.created()
    async with client_of(place.server, "agents") as client:
        script = await client.get("/api/agent/install")
    done = await asyncio.to_thread(place.host.run, script.text, environment=TOKEN)

    assert None is made["install_line"]
    assert "release add" in made["install_problem"]
    assert (69, True) == (done.returncode, "release add" in done.stderr)


@pytest.mark.parametrize("port", ["local", "agents"])
async def test_the_script_never_depends_on_the_host_header(place: Place, port: str) -> None:
    """An existing server pastes it into a script that root runs."""
    async with client_of(place.server, port) as client:
        plain = await client.get("/api/agent/install")
        other = await client.get("/api/agent/install", headers={"Host": "$(id).example:1"})

    assert (plain.text, "no-store") == (other.text, plain.headers["cache-control"])
    assert "text/plain; charset=utf-8" == plain.headers["content-type"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("token=tok_abc", "never goes into a URL"),
        ("token=", "never goes into a URL"),
        ('ingest=";evil;"', "Invalid agent ingest address"),
        ("ingest=host", "Invalid agent ingest address"),
    ],
)
async def test_a_request_that_cannot_be_meant_gets_no_script(place: Place, query: str, sentence: str) -> None:
    """What comes in a URL is validated before it is quoted."""
    async with client_of(place.server, "local") as client:
        answer = await client.get(f"/api/agent/install?{query}")

    assert (400, True) == (answer.status_code, sentence in answer.json()["error"])


async def test_address_and_skip_verify_can_be_asked_for(place: Place) -> None:
    """The latter by the word true alone."""
    async with client_of(place.server, "local") as client:
        asked = await client.get("/api/agent/install?ingest=[2001:db8::1]:1&skip_verify=true")
        unclear = await client.get("/api/agent/install?skip_verify=1")

    assert "address='[2001:db8::1]:1'\n\tskip_verify='yes'\n" in asked.text
    assert "skip_verify=''\n" in unclear.text


async def test_an_address_may_ask_thirty_times_a_minute(place: Place) -> None:
    """In the words of existing servers."""
    async with client_of(place.server, "agents") as client:
        statuses = [(await client.get("/api/agent/install")).status_code for _ in range(30)]
        refused = await client.get("/api/agent/install")

    assert [200] * 30 == statuses
    assert (429, {"error": "Too many requests — please wait before trying again."}) == (
        refused.status_code,
        refused.json(),
    )


def pin_by_openssl(certificate: Path) -> str:
    """The pin as curl's manual says to make it."""
    command = (
        f"openssl x509 -in {certificate} -pubkey -noout | openssl pkey -pubin -outform DER | "
        "openssl dgst -sha256 -binary | openssl base64 -A"
    )
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


async def test_behind_a_proxy_the_line_names_the_proxy_and_pins_its_key(
    sqlite_settings: Settings, tmp_path: Path
) -> None:
    """By WEB_TLS_CERT; agents still connect to the server itself."""
    async with real_server(sqlite_settings) as first:
        certificate = tmp_path / "proxy.crt"
        certificate.write_text(first.wire.ca_pem)
    (tmp_path / "host").mkdir()
    add(Shelf(sqlite_settings.agent_dist_dir), tmp_path, InstallHost(tmp_path / "host"), None)
    settings = replace(
        sqlite_settings, download_base_url="https://dl.example.com/ops", web_tls_cert=certificate
    )
    pin = pin_by_openssl(certificate)
    async with real_server(settings) as server:
        made = await server.ask("POST", "/v1/tokens", {"actor": "test", "label": "test"})

    assert (
        f"curl -fsSLk --pinnedpubkey 'sha256//{pin}' 'https://dl.example.com/ops/api/agent/install'"
        == made["install_line"].partition(" | ")[0]
    )

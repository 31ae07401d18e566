"""Install bundles as operators build them, with and without a running server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import prepared_commands
from ct_ops_proto.enrolment_token import parse_token
from ct_ops_server.config.schema import Settings
from ct_ops_server.releases import bundle as bundle_module
from ct_ops_server.releases.packing import unpack
from ct_ops_server.releases.release_key import make_release_key
from ct_ops_server.releases.shelf import Shelf
from install_host import STEM, InstallHost, agent_archive
from real_server import RealServer, real_server

BUILD = ("bundle", "build", "--os", "linux", "--arch", "amd64")


@pytest.fixture
def stocked(sqlite_settings: Settings, tmp_path: Path) -> Settings:
    """An installation with a release key and an agent on its shelf."""
    sqlite_settings.data_dir.mkdir(mode=0o700)
    make_release_key(sqlite_settings.data_dir, sqlite_settings.data_dir / "release-key.pem")
    archive = tmp_path / f"{STEM}.tar.gz"
    archive.write_bytes(agent_archive(InstallHost(tmp_path).agent))
    shelf = Shelf(sqlite_settings.agent_dist_dir)
    shelf.add(archive, shelf.describe(archive, glibc_floor="2.30"), None)
    return replace(sqlite_settings, public_addresses=("ops.example.com:9443",))


def run(
    settings: Settings, *words: str, said: str = "", limit: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator does; ``limit`` is a limit of the shell that it runs in."""
    environment = {
        "PATH": os.environ["PATH"],
        "INGEST_DATA_DIR": str(settings.data_dir),
        "AGENT_DIST_DIR": str(settings.agent_dist_dir),
        "INGEST_PUBLIC_ADDRESS": "ops.example.com:9443",
    }
    if not limit:
        return prepared_commands.run("ct_ops_server", *words, environ=environment | variables, said=said)
    return subprocess.run(
        ["sh", "-c", f'{limit}\nexec "$@"', "sh", sys.executable, "-m", "ct_ops_server", *words],
        # Under the limit a module would be compiled into half a file, which every later test would stumble over.
        env=environment | variables | {"PYTHONDONTWRITEBYTECODE": "1"},
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def contents(file: Path) -> dict[str, bytes]:
    return {entry.name.rpartition("/")[2]: entry.content for entry in unpack(file.read_bytes())}


def left_of(name: str, folder: Path) -> list[Path]:
    """The file, and what it was being written as."""
    return [path for path in folder.iterdir() if name in path.name]


def tokens(settings: Settings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(settings, "token", "list", "--json").stdout)
    return found


def test_a_bundle_holds_a_token_of_its_own_for_one_host_and_a_week(stocked: Settings, tmp_path: Path) -> None:
    """The default; only its owner can read the file."""
    file = tmp_path / "web-1.zip"
    done = run(stocked, *BUILD, "-o", str(file), "--tag", "env:prod", "--json")
    (token,) = tokens(stocked)
    found = contents(file)

    assert 0 == done.returncode, done.stderr
    assert {
        "file": str(file),
        "length": file.stat().st_size,
        "signed": True,
        "token_id": token["id"],
    } == json.loads(done.stdout)
    assert (1, "install bundle linux/amd64", False) == (
        token["max_uses"],
        token["label"],
        token["auto_approve"],
    )
    assert token["expires_at"] is not None
    assert (b"PK", 0o600) == (file.read_bytes()[:2], file.stat().st_mode & 0o777)
    assert b'"env:prod"' in found["agent.toml"]
    hint = parse_token(found["enrolment-token"].decode().strip()).hint
    assert hint is not None
    assert ("ops.example.com:9443",) == hint.addresses
    assert found["server-ca.crt"] == (stocked.data_dir / "server-ca.crt").read_bytes()


async def test_a_running_server_builds_the_same_bytes_as_a_command_alone(
    stocked: Settings, tmp_path: Path
) -> None:
    """And the same again, whenever it is asked."""
    first, second = tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"
    words = (*BUILD, "--no-token", "--address", "ops.example.com:9443", "-o")
    alone = await asyncio.to_thread(run, stocked, *words, str(first))
    async with real_server(stocked):
        asked = await asyncio.to_thread(run, stocked, *words, str(second))

    assert (0, 0) == (alone.returncode, asked.returncode), alone.stderr + asked.stderr
    assert first.read_bytes() == second.read_bytes()
    assert "enrolment-token" not in contents(first)


@pytest.fixture
async def server(stocked: Settings) -> Any:
    async with real_server(stocked) as running:
        yield running


ASKED = {"actor": "test", "os": "linux", "arch": "amd64"}


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"arch": "arm64"}, "no_artefact", "release add"),
        ({"os": "windows"}, "malformed", "linux"),
        ({"address": '";evil;"'}, "malformed", "Invalid agent ingest address"),
        ({"address": "host"}, "malformed", "Invalid agent ingest address"),
        ({"tags": {"a": "b\n[x]"}}, "malformed", "printable"),
        ({"token": "tok_unknown"}, "conflict", "does not know the token"),
        ({"token": "tok_" + "a" * 32 + ".cut"}, "conflict", "incomplete"),
        ({"token": "x"}, "malformed", "not both"),
        ({"create_token": {"max_uses": 0}}, "malformed", "max uses"),
    ],
)
async def test_what_cannot_be_built_leaves_no_token_behind(
    server: RealServer, change: dict[str, Any], code: str, sentence: str
) -> None:
    """An existing server makes the token first and looks for the agent then."""
    body = ASKED | ({} if "token" in change and change["token"] != "x" else {"create_token": {}}) | change
    answer = await server.ask("POST", "/v1/bundles", body)

    assert code == answer["error"]["code"]
    assert sentence in answer["error"]["message"]
    assert [] == await server.ask("GET", "/v1/tokens")


@pytest.mark.parametrize("end", ["revoked", "exhausted"])
async def test_a_token_that_admits_nobody_gets_into_no_bundle(server: RealServer, end: str) -> None:
    """It would be found out on the host, far from anybody who can help."""
    token = await server.token(max_uses=1, label="old")
    if end == "revoked":
        await server.ask("POST", "/v1/tokens/old/revoke", {"actor": "test"})
    else:
        from wire_client import Host  # noqa: PLC0415

        await server.wire.register(Host("web-1"), token)
    answer = await server.ask("POST", "/v1/bundles", ASKED | {"token": token})

    assert f"is {end}, so it admits nobody" in answer["error"]["message"]


async def test_a_build_that_fails_takes_its_token_back(
    server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever went wrong: nobody must be left with an invitation that is in no bundle."""
    from ct_ops_server.enrolment import bundles  # noqa: PLC0415

    def broken(*_: object, **__: object) -> bytes:
        raise bundle_module.BundleError("no space left")

    monkeypatch.setattr(bundles, "pack", broken)
    answer = await server.ask("POST", "/v1/bundles", ASKED | {"create_token": {}})
    (token,) = await server.ask("GET", "/v1/tokens")

    assert "no space left" in answer["error"]["message"]
    assert "revoked" == token["state"]


async def test_a_bundle_that_cannot_be_written_takes_its_token_back(
    server: RealServer, tmp_path: Path
) -> None:
    """A full disk; and a folder that is not there is found before there is a token."""
    settings = server.settings
    nowhere = str(tmp_path / "nowhere" / "x.zip")
    missing = await asyncio.to_thread(run, settings, *BUILD, "-o", nowhere)
    before = await server.ask("GET", "/v1/tokens")
    file = str(tmp_path / "x.zip")
    done = await asyncio.to_thread(run, settings, *BUILD, "-o", file, limit="ulimit -f 1")
    (token,) = await server.ask("GET", "/v1/tokens")

    assert ([], "revoked") == (before, token["state"])
    assert (1, 1) == (missing.returncode, done.returncode), done.stderr
    assert "cannot be written" in missing.stderr
    assert "File too large" in done.stderr
    assert [] == await asyncio.to_thread(left_of, "x.zip", tmp_path)


def test_a_token_that_is_there_can_be_given_and_is_not_shown(stocked: Settings, tmp_path: Path) -> None:
    """By standard input; on the command line with a warning."""
    token = run(stocked, "token", "create", "--label", "x").stdout.strip()
    piped = run(stocked, *BUILD, "--token", "-", "-o", str(tmp_path / "a.zip"), said=token + "\n")
    warned = run(stocked, *BUILD, "--token", token, "-o", str(tmp_path / "b.zip"))
    both = run(stocked, *BUILD, "--token", "-", "--no-token", "-o", str(tmp_path / "c.zip"))

    assert (0, 0, 2) == (piped.returncode, warned.returncode, both.returncode)
    assert "can be seen by every user" in warned.stderr
    assert token not in piped.stdout + piped.stderr + warned.stdout + warned.stderr
    found = contents(tmp_path / "a.zip")
    assert (token, True) == (
        found["enrolment-token"].decode().strip(),
        b"any number of hosts" in found["README.md"],
    )
    assert 1 == len(tokens(stocked))


def test_a_release_key_that_is_kept_elsewhere_signs_here(stocked: Settings, tmp_path: Path) -> None:
    """The server never sees it; without it a bundle is built by who says so."""
    stick = tmp_path / "stick.pem"
    (stocked.data_dir / "release-key.pem").rename(stick)
    words = (*BUILD, "--no-token", "-o")
    refused = run(stocked, *words, str(tmp_path / "a.zip"))
    with_key = run(stocked, *words, str(tmp_path / "b.zip"), "--key", str(stick))
    without = run(stocked, *words, str(tmp_path / "c.zip"), "--unsigned")

    assert (1, 0, 0) == (refused.returncode, with_key.returncode, without.returncode)
    assert "--key FILE" in refused.stderr
    assert (True, False) == (
        "SHA256SUMS.sig" in contents(tmp_path / "b.zip"),
        "SHA256SUMS.sig" in contents(tmp_path / "c.zip"),
    )
    host = InstallHost(tmp_path)
    folder = tmp_path / "unpacked"
    for entry in unpack((tmp_path / "b.zip").read_bytes()):
        (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / entry.name).write_bytes(entry.content)
    done = host.run_file(folder / "ct-ops-agent-linux-amd64" / "install.sh", "--verify")
    assert 0 == done.returncode, done.stderr


def test_nothing_on_the_shelf_is_a_sentence_and_an_exit_code(stocked: Settings, tmp_path: Path) -> None:
    """It says what to do."""
    done = run(stocked, "bundle", "build", "--arch", "arm64", "-o", str(tmp_path / "x.zip"))

    assert (1, True, []) == (done.returncode, "release add" in done.stderr, tokens(stocked))


def test_the_proxys_certificate_is_in_it_where_there_is_one(stocked: Settings, tmp_path: Path) -> None:
    """WEB_TLS_CERT; one that was named and is not there is said."""
    run(stocked, "token", "list")
    certificate, missing = str(stocked.data_dir / "server-ca.crt"), str(tmp_path / "missing.crt")
    done = run(stocked, *BUILD, "--no-token", "-o", str(tmp_path / "a.zip"), WEB_TLS_CERT=certificate)
    refused = run(stocked, *BUILD, "--no-token", "-o", str(tmp_path / "b.zip"), WEB_TLS_CERT=missing)

    assert 0 == done.returncode, done.stderr
    assert contents(tmp_path / "a.zip")["server-cert.pem"].startswith(b"-----BEGIN")
    assert (1, True) == (refused.returncode, "missing.crt" in refused.stderr)

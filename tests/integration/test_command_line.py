"""``ct-ops-server`` and ``ct-ops-agent`` as processes, the way people and units start them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which everything is in ``folder`` and on loopback."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "INGEST_DATA_DIR": str(folder / "server"),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "CT_OPS_DATA_DIR": str(folder / "agent"),
        "CT_OPS_HEARTBEAT_INTERVAL_SECS": "1",
        "CT_OPS_HOSTNAME": "host-under-test",
    }


def run(environ: Mapping[str, str], module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=60, check=False)


def ctl(environ: Mapping[str, str], *arguments: str) -> Any:
    """Return what a server command prints as JSON."""
    done = run(environ, "ct_ops_server", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def server(environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a server; it is ready when the block begins and gone when it ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ct_ops_server", "serve"], env=dict(environ), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready grpc_port=")
        yield process
    finally:
        process.terminate()
        process.wait(15)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


def test_a_real_agent_enrols_by_its_token_alone_and_needs_it_no_more(environ: dict[str, str]) -> None:
    """Token in the environment, nothing else; the second start has no token at all."""
    with server(environ) as process:
        token = ctl(environ, "token", "create", "--label", "x", "--auto-approve", "--max-uses", "1")["token"]
        first = run(environ | {"CT_OPS_ENROLMENT_TOKEN": token}, "ct_ops_agent", "run", "--once")
        address = "127.0.0.1:" + str(_port(process))
        second = run(environ | {"CT_OPS_INGEST_ADDRESS": address}, "ct_ops_agent", "run", "--once")
        shown = ctl(environ, "agent", "show", "host-under-test")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert shown["status"] == "active"
    assert shown["vitals"]["memory_percent"] > 0
    assert token not in first.stdout + first.stderr


def _port(process: subprocess.Popen[str]) -> int:
    """Return the port of the only listener that is not the HTTP app, as the agent stored it."""
    import psutil  # noqa: PLC0415

    listening = [c.laddr for c in psutil.Process(process.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert len(listening) == 2
    ready = [address.port for address in listening if not _speaks_http(address.port)]
    return int(ready[0])


def _speaks_http(port: int) -> bool:
    import httpx  # noqa: PLC0415

    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=20).text == "ok"
    except httpx.HTTPError:
        return False


def test_commands_work_without_a_server_and_keep_everything_private(environ: dict[str, str]) -> None:
    """With none running the command opens the installation itself; all files are the owner's alone."""
    environ = environ | {"INGEST_PUBLIC_ADDRESS": "ct-ops.example:9443"}
    made = ctl(environ, "token", "create", "--label", "x", "--expires", "7d", "--tag", "role:web")
    listed = ctl(environ, "agent", "list")
    folder = Path(environ["INGEST_DATA_DIR"])
    modes = {path.name: path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())}

    assert made["token"].startswith("tok_")
    assert made["tags"] == {"role": "web"}
    assert listed == []
    assert set(modes.values()) == {0}


def test_exit_codes_say_what_kind_of_failure_it_was(environ: dict[str, str]) -> None:
    """1 failed, 2 usage, 69 in use, 78 configuration."""
    with server(environ):
        codes = {
            "unknown agent": run(environ, "ct_ops_server", "agent", "show", "nobody").returncode,
            "bad duration": run(
                environ, "ct_ops_server", "token", "create", "--label", "x", "--expires", "3y"
            ).returncode,
            "bad tag": run(
                environ, "ct_ops_server", "token", "create", "--label", "x", "--tag", "y"
            ).returncode,
            "second server": run(environ, "ct_ops_server", "serve").returncode,
        }
    codes["bad port"] = run(environ | {"INGEST_GRPC_PORT": "x"}, "ct_ops_server", "serve").returncode

    assert codes == {"unknown agent": 1, "bad duration": 2, "bad tag": 2, "second server": 69, "bad port": 78}


def test_config_check_lists_every_problem_by_name(environ: dict[str, str]) -> None:
    """Three mistakes, three lines."""
    bad = environ | {"INGEST_GRPC_PORT": "99999", "INGEST_TLS_CERT": "/no/such/file", "INGEST_GPRC_HOST": "x"}
    done = run(bad, "ct_ops_server", "config", "check")

    assert done.returncode == 78
    assert [
        name for name in ("INGEST_GRPC_PORT", "INGEST_TLS_KEY", "INGEST_GRPC_HOST?") if name in done.stdout
    ] == [
        "INGEST_GRPC_PORT",
        "INGEST_TLS_KEY",
        "INGEST_GRPC_HOST?",
    ]


def test_after_a_killed_server_the_agent_reconnects_by_itself(environ: dict[str, str]) -> None:
    """SIGKILL, a new server on the same port: the same agent is online again, and stops cleanly."""
    with server(environ) as first:
        token = ctl(environ, "token", "create", "--label", "x", "--auto-approve")["token"]
        port = _port(first)
        agent = subprocess.Popen(
            [sys.executable, "-m", "ct_ops_agent", "run"], env=environ | {"CT_OPS_ENROLMENT_TOKEN": token},
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _until_online(environ)
            first.send_signal(signal.SIGKILL)
            first.wait()
            with server(environ | {"INGEST_GRPC_PORT": str(port)}):
                _until_online(environ)
                agent.send_signal(signal.SIGTERM)
                code = agent.wait(10)
        finally:
            agent.kill()
            agent.wait()

    assert code == 0


def _until_online(environ: Mapping[str, str]) -> None:
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        agents = ctl(environ, "agent", "list")
        if agents and agents[0]["online"] and agents[0]["vitals"]:
            return
        time.sleep(0.1)
    raise AssertionError("the agent did not come online")


AS_NOBODY = """
import concurrent.futures.thread, importlib, os, pkgutil, sys
import ct_ops_server
# Everything is imported first: this very Python may lie in a folder that nobody else may read.
for module in pkgutil.walk_packages(ct_ops_server.__path__, "ct_ops_server."):
    if "__main__" not in module.name and "migrations" not in module.name:
        importlib.import_module(module.name)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.chdir("/")
ct_ops_server.cli.main(sys.argv[1:])
"""


def as_nobody(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a server command as a user that owns nothing."""
    command = [sys.executable, "-c", AS_NOBODY, *arguments]
    return subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def open_environ() -> Iterator[dict[str, str]]:
    """An environment in a folder that everybody may enter: only the data directory itself is closed."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a command as somebody else")
    with tempfile.TemporaryDirectory(prefix="ct-ops-open-") as folder:
        Path(folder).chmod(0o755)
        yield environment(Path(folder))


def test_another_users_command_is_refused_with_and_without_a_server(open_environ: dict[str, str]) -> None:
    """Exit 77, and what to do: neither the socket nor the data directory is everybody's."""
    with server(open_environ):
        beside_a_server = as_nobody(open_environ, "agent", "list")
    alone = as_nobody(open_environ, "agent", "list")

    assert [77, 77] == [beside_a_server.returncode, alone.returncode], beside_a_server.stderr + alone.stderr
    assert "sudo" in beside_a_server.stderr
    assert "Traceback" not in beside_a_server.stderr + alone.stderr


def test_a_data_directory_that_cannot_be_made_is_refused(open_environ: dict[str, str]) -> None:
    """A newcomer who is not root hears which setting to change."""
    environ = open_environ | {"INGEST_DATA_DIR": "/ct-ops-of-nobody"}
    done = as_nobody(environ, "serve")

    assert 77 == done.returncode, done.stderr
    assert "INGEST_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", ["/.well-known/ct-ops/ca.pem", "/.well-known/jwks.json"])
def test_curl_reaches_the_public_app_on_the_agents_port(environ: dict[str, str], path: str) -> None:
    """It offers HTTP/2 and HTTP/1.1, as it always does, and is not sent to gRPC."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed; test_front_door offers both protocols without it")
    with server(environ) as process:
        ca = f"{environ['INGEST_DATA_DIR']}/server-ca.crt"
        url = f"https://localhost:{_port(process)}{path}"
        done = subprocess.run(
            [curl, "--silent", "--show-error", "--fail", "--cacert", ca, "--write-out", "%{http_version}", url],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip

    assert 0 == done.returncode, done.stderr
    assert done.stdout.endswith("1.1")
    assert ("BEGIN CERTIFICATE" in done.stdout) or ('"keys"' in done.stdout)

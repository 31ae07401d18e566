"""The agent's commands beside a running agent: processes, files and a real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ct_ops_agent.service.belongings import foreign_among
from fakes.conforming_server import conforming_server
from prepared_commands import finished, start
from real_server import RealServer, real_server, settings_for


@dataclass
class AgentHost:
    """A host, as the shell of its operator sees it."""

    folder: Path
    environment: dict[str, str]

    @property
    def data(self) -> Path:
        return self.folder / "agent"

    @property
    def toml(self) -> Path:
        return self.folder / "agent.toml"

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end; return exit code, output and errors."""
        done = await finished("ct_ops_agent", *arguments, "-config", str(self.toml), environ=self.environment)
        return done.returncode, done.stdout, done.stderr

    async def status(self) -> tuple[int, dict[str, Any]]:
        """Return exit code and answer of ``status --json``."""
        code, output, errors = await self.run("status", "--json")
        assert not errors
        return code, json.loads(output)

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[None]:
        """Run the agent."""
        process = await start(
            "ct_ops_agent", "-config", str(self.toml), environ=self.environment, with_errors=True
        )
        try:
            yield
        finally:
            process.terminate()
            self.log = (await process.communicate()).decode()

    async def until(self, fits: Callable[[int, dict[str, Any]], bool]) -> tuple[int, dict[str, Any]]:
        """Ask for the status until it fits."""
        async with asyncio.timeout(30):
            while not fits(*(answer := await self.status())):
                pass
        return answer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RealServer]:
    """A server of ours."""
    async with real_server(settings_for(tmp_path / "server")) as running:
        yield running


@pytest.fixture
def host(tmp_path: Path) -> AgentHost:
    """A host with an agent that nobody has configured."""
    environment = {"PATH": os.environ["PATH"], "RUNTIME_DIRECTORY": str(tmp_path)}
    return AgentHost(tmp_path, environment)


async def configure(host: AgentHost, server: RealServer, **terms: Any) -> None:
    """Write the file that an operator would write."""
    token = await server.token(**terms)
    host.toml.write_text(
        f'# written by hand\n[ingest]\naddress = "127.0.0.1:{server.wire.port}"\n'
        f'[agent]\ndata_dir = "{host.data}"\nheartbeat_interval_secs = 1\nenrolment_token = "{token}"\n'
    )


def connected(code: int, _answer: dict[str, Any]) -> bool:
    return code == 0


async def test_the_status_follows_an_agent_from_its_first_start_to_its_end(
    host: AgentHost, server: RealServer
) -> None:
    """Not running, pending, connected, not running: each with its exit code."""
    await configure(host, server, auto_approve=False)
    before = await host.status()
    async with host.daemon():
        waiting = await host.until(lambda _, answer: answer["status"] == "pending")
        human = await host.run("status")
        (pending,) = await server.ask("GET", "/v1/agents")
    after = await host.status()

    assert (3, "not running") == (before[0], before[1]["status"])
    assert (4, pending["id"]) == (waiting[0], waiting[1]["agent_id"])
    assert f"waiting for approval as agent {pending['id']}" in human[1]
    assert (3, "pending") == (after[0], after[1]["state"])


async def test_an_enrolled_agent_says_all_that_an_operator_asks(host: AgentHost, server: RealServer) -> None:
    """Dates, skew, abilities; and the file that says it is open to all and holds no secret."""
    await configure(host, server)
    async with host.daemon():
        _, answer = await host.until(connected)
        file = (host.folder / "status.json").read_text()
        mode = (host.folder / "status.json").stat().st_mode & 0o777
        _, shown, _ = await host.run("identity", "show", "--json")

    identity = json.loads(shown)
    assert {"renewal", "delivery"} <= set(answer["features"])
    assert abs(answer["clock_skew_s"]) < 60
    for name, known in (("agent_id", "agent_id"), ("key_id", "key_id"), ("leaf_not_after", "leaf_not_after")):
        assert identity[known] == answer[name]
    assert identity["agent_token_expires_at"] == answer["agent_token_expires_at"]
    assert 0o644 == mode
    assert "eyJ" not in file + host.log
    assert "tok_" not in file + host.log


async def test_a_key_is_rotated_by_the_command_beside_the_running_agent(
    host: AgentHost, server: RealServer
) -> None:
    """The command waits and names the new key; the agent stays what it was, and connected."""
    await configure(host, server)
    async with host.daemon():
        _, before = await host.until(connected)
        code, output, errors = await host.run("identity", "rotate-key")
        _, after = await host.until(lambda code, answer: code == 0 and answer["key_id"] != before["key_id"])
        agents = await server.ask("GET", "/v1/agents")

    assert (0, f"new key id: {after['key_id']}\n") == (code, output), errors
    assert [(before["agent_id"], True)] == [(agent["id"], agent["online"]) for agent in agents]


async def test_a_rotation_asked_for_while_no_agent_runs_happens_at_the_next_start(
    host: AgentHost, server: RealServer
) -> None:
    """The request waits in the data directory."""
    await configure(host, server)
    async with host.daemon():
        _, before = await host.until(connected)
    _, output, _ = await host.run("identity", "rotate-key")
    async with host.daemon():
        await host.until(lambda code, answer: code == 0 and answer["key_id"] != before["key_id"])

    assert "at its next start" in output


async def test_the_agent_suggests_to_forget_its_token_and_the_command_does_it(
    host: AgentHost, server: RealServer
) -> None:
    """Once a server of ours has acknowledged a heartbeat; the next start needs no token."""
    await configure(host, server)
    refused, _, said = await host.run("enrolment", "forget-token")
    async with host.daemon():
        await host.until(connected)
    suggestion = host.log
    code, _, _ = await host.run("enrolment", "forget-token")
    async with host.daemon():
        await host.until(connected)

    assert (1, True) == (refused, "this host is not enrolled" in said)
    assert 1 == suggestion.count("ct-ops-agent enrolment forget-token")
    assert 0 == code
    assert "tok_" not in host.toml.read_text()
    assert host.toml.read_text().startswith("# written by hand\n")
    assert "forget-token" not in host.log


async def test_an_existing_server_is_named_and_rotates_no_keys(host: AgentHost) -> None:
    """It acknowledges heartbeats and nothing else; a rotation is refused before it begins."""
    async with conforming_server() as server:
        ca = host.folder / "ca.pem"
        ca.write_text(server.server_ca.pem)
        host.toml.write_text(
            f'[ingest]\naddress = "{server.address}"\nca_cert_file = "{ca}"\n'
            f'[agent]\ndata_dir = "{host.data}"\nheartbeat_interval_secs = 1\nenrolment_token = "tok_opaque"\n'
        )
        async with host.daemon():
            await host.until(connected)
            _, text, _ = await host.run("status")
            code, _, errors = await host.run("identity", "rotate-key")

    assert "(existing: send and forget)" in text
    assert (77, True) == (code, "this server cannot replace keys" in errors)
    assert "forget-token" not in host.log  # an existing server may ask for the token again


async def test_a_killed_agent_is_not_running_whatever_its_file_says(
    host: AgentHost, server: RealServer
) -> None:
    """The file says connected, the kernel knows better."""
    await configure(host, server)
    async with host.daemon():
        _, answer = await host.until(connected)
        os.kill(answer["pid"], 9)
        code, last = await host.until(lambda code, _: code != 0)

    assert (3, "connected", False) == (code, last["state"], last["running"])


async def test_a_support_bundle_tells_how_it_is_and_holds_no_secret(
    host: AgentHost, server: RealServer
) -> None:
    """The token, the key, the agent token, what a program is told: none of them is in any file of it."""
    await configure(host, server)
    token = re.findall(r'enrolment_token = "(.*)"', host.toml.read_text())[0]
    with host.toml.open("a") as file:
        file.write(
            "[[collectors.exec]]\nname = 'backup'\ncommand = ['/bin/echo', 'password-of-a-database']\n"
        )
    path = host.folder / "bundle.tar.gz"
    async with host.daemon():
        await host.until(connected)
        host.environment["CT_OPS_ORG_TOKEN"] = "opaque-token-of-the-environment"
        code, output, errors = await host.run("support-bundle", "-o", str(path))
    secrets = [token, *token.split("."), "password-of-a-database", "opaque-token-of-the-environment"]
    secrets += [line for line in (host.data / "agent_key.pem").read_text().splitlines() if "-" not in line]
    secrets.append(json.loads((host.data / "agent_state.json").read_text())["jwt_token"])
    with tarfile.open(path) as tar:
        files = {
            member.name.rpartition("/")[2]: tar.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in tar.getmembers()
        }

    assert (0, "") == (code, "".join(line for line in errors.splitlines() if "without" in line))
    assert [] == [(name, secret) for name, text in files.items() for secret in secrets if secret in text]
    assert "secrets masked" in output
    assert "connected" == json.loads(files["status.json"])["status"]
    assert json.loads((host.data / "agent_state.json").read_text())["agent_id"] in files["identity.json"]
    (steps,) = json.loads(files["self-test.json"]).values()
    assert [True] * 5 == [step["is_fine"] for step in steps], steps
    assert {"backup", "cpu"} <= {one["name"] for one in json.loads(files["collectors.json"])}
    assert {*files} - {"manifest.json"} == {*json.loads(files["manifest.json"])["files"]}


async def test_nothing_appears_in_a_data_directory_that_is_not_known_to_be_the_agents(
    host: AgentHost, server: RealServer
) -> None:
    """`uninstall` removes by name: a file that it does not know would stay for ever."""
    await configure(host, server)
    async with host.daemon():
        await host.until(connected)
        while_it_runs = [path.name for path in host.data.iterdir()]

    assert () == foreign_among([*while_it_runs, *(path.name for path in host.data.iterdir())])

"""`uninstall --deregister`: the real command's first step, in a process of its own, against real servers."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from agent_world import World
from ct_ops_agent.control_plane import Route
from ct_ops_agent.deregistration import Farewell, deregister
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.service import layout
from ct_ops_agent.transport.control_plane import GrpcConnector
from fakes.conforming_server import conforming_server

GOODBYE = """
import sys
from pathlib import Path
from ct_ops_agent.cli.exits import errors_as_exits
from ct_ops_agent.cli.leaving import say_goodbye
from ct_ops_agent.service.machine import Machine
with errors_as_exits():
    goodbye = say_goodbye(Machine(Path(sys.argv[1])))
    print(goodbye.sentence, goodbye.is_done)
"""


async def say_goodbye(root: Path) -> tuple[int, str]:
    """Say it for the host under a root; return exit code and what was said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        GOODBYE,
        str(root),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode().strip()


def host_of(folder: Path, address: str, data_dir: Path | None = None) -> Path:
    """Return the root of a host with an agent installed, enrolled when there is a data directory."""
    root = folder / "root"
    configuration, data = root / layout.CONFIGURATION.relative_to("/"), root / layout.DATA.relative_to("/")
    configuration.parent.mkdir(parents=True)
    configuration.write_text(f'[ingest]\naddress = "{address}"\n')
    configuration.chmod(0o600)
    data.parent.mkdir(parents=True)
    if data_dir:
        shutil.copytree(data_dir, data)
    else:
        data.mkdir(mode=0o700)
    return root


async def test_an_enrolled_host_leaves_and_hears_of_it_once_more(world: World, tmp_path: Path) -> None:
    """The route is the one that was learnt at enrolment; no token is there any more."""
    agent_id = await world.once(world.config)
    root = host_of(tmp_path, world.config.address or "", world.config.data_dir)
    first = await say_goodbye(root)
    second = await say_goodbye(root)

    assert (0, f"deregistered: the server admits agent {agent_id} no more True") == first
    assert (0, f"the server had revoked agent {agent_id} already True") == second
    assert "revoked" == (await world.shown())["status"]


async def test_a_host_that_was_never_enrolled_has_nothing_to_say(world: World, tmp_path: Path) -> None:
    """That is no failure: it is taken off all the same."""
    code, said = await say_goodbye(host_of(tmp_path, world.config.address or ""))

    assert (0, "this host is not enrolled: there is nobody to deregister True") == (code, said)


async def test_a_server_that_does_not_answer_leaves_everything_as_it_is(world: World, tmp_path: Path) -> None:
    """The sentence says what to do instead."""
    agent_id = await world.once(world.config)
    root = host_of(tmp_path, "127.0.0.1:1", world.config.data_dir)
    code, said = await say_goodbye(root)

    assert 1 == code
    assert "nothing was taken off" in said
    assert f"ct-ops-server agent revoke {agent_id}" in said


async def test_an_existing_server_cannot_be_told() -> None:
    """It knows no challenges, so there is nothing to sign."""
    async with conforming_server() as server:
        route = Route((server.address,), server.server_ca.pem)
        assert Farewell.UNSUPPORTED is await deregister(GrpcConnector(), route, make_key_pair(), "0" * 24)

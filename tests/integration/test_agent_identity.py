"""Our agent and our server, both real, over the life of an identity: lost, expired, renewed, rotated."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent_world import World, eventually, live, living, until_more, until_other_text
from ct_ops_agent.errors import ConfigError, EnrolmentRefusedError
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.keystore import load_key_pair
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_server.config.schema import Settings
from ct_ops_server.store.database import Database
from real_server import real_server, settings_for


def remove(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).unlink()


async def test_an_enrolled_agent_needs_its_token_no_more(world: World) -> None:
    """One use, spent once, however often it starts."""
    first = await world.once(world.config)

    assert [first] * 3 == [await world.once() for _ in range(3)]


async def test_an_agent_that_lost_everything_but_its_key_gets_back_in(world: World) -> None:
    """State and leaf are gone, the token is used up; the key is who it is."""
    agent_id = await world.once(world.config)
    remove(world.config.data_dir, "agent_state.json", "agent_cert.pem", "agent_ca.pem")
    kept = replace(world.config, enrolment_token=world.config.enrolment_token)

    assert agent_id == await world.once(kept)


async def test_an_agent_without_its_state_and_without_a_token_gets_back_in(world: World) -> None:
    """What the server is believed by is still there: the trust bundle of the first contact."""
    agent_id = await world.once(world.config)
    remove(world.config.data_dir, "agent_state.json", "agent_cert.pem")

    assert agent_id == await world.once()


async def test_a_host_without_a_key_still_needs_a_token(world: World) -> None:
    """Nothing to prove, nothing to show."""
    with pytest.raises(ConfigError, match="enrolment_token"):
        await world.once()


# No longer: the server would renew its own certificate by the clock of the test, which TLS does not share.
@pytest.mark.parametrize("days", [1.1, 45, 91, 250])
async def test_any_time_offline_ends_with_the_agent_back_in(world: World, days: float) -> None:
    """Agent token expired, leaf half-way, leaf expired, all of it long ago."""
    agent_id = await world.once(world.config)
    world.later(days=days)

    assert agent_id == await world.once()


async def test_a_key_that_the_server_does_not_know_is_told_what_to_do(world: World, tmp_path: Path) -> None:
    """Another server, or a deleted agent: it takes a token."""
    await world.once(world.config)
    (agent,) = await world.server.ask("GET", "/v1/agents")
    await world.server.ask("DELETE", f"/v1/agents/{agent['id']}", {"actor": "test"})

    with pytest.raises(EnrolmentRefusedError, match="token create"):
        await world.once()


async def test_a_server_that_was_rebuilt_with_another_authority_lets_the_agent_back_in(
    world: World, tmp_path: Path
) -> None:
    """The leaf is of an unknown CA, which fails the first handshake; the key is known from the database."""
    agent_id = await world.once(world.config)
    shutil.copytree(
        tmp_path / "server",
        tmp_path / "rebuilt",
        ignore=shutil.ignore_patterns("*.sock", "*.lock", "agent-ca*"),
    )
    settings = settings_for(tmp_path / "rebuilt")
    await forget_authorities(settings)
    async with real_server(settings) as server:
        config = replace(world.without_token, address=f"127.0.0.1:{server.wire.port}")
        await live(config, until=1)
        (shown,) = await server.ask("GET", "/v1/agents")

    assert (agent_id, "active") == (shown["id"], shown["status"])


async def forget_authorities(settings: Settings) -> None:
    """Let the rebuilt server know no authority of before."""
    database = await Database.open(settings.database_url)
    try:
        async with database.writing() as connection:
            await connection.execute(sa.text("DELETE FROM authorities"))
    finally:
        await database.dispose()


async def test_leaf_and_token_are_renewed_while_the_agent_runs(world: World) -> None:
    """Two hundred and forty days without a restart: the process lives, the leaf on the disk is a young one."""
    await world.once(world.config)
    leaf = world.config.data_dir / "agent_cert.pem"
    async with living(world.without_token, world.agent_clock) as agent:
        await eventually(lambda: agent.acknowledged >= 1, agent)
        for _ in range(4):
            before = leaf.read_text()
            world.later(days=60)  # whatever share of the jitter this agent has
            await until_other_text(leaf, before, agent)
            await until_more(agent)
        shown = await world.shown()

    assert shown["online"]


async def test_a_key_is_rotated_while_the_agent_runs(world: World) -> None:
    """On request: the new key is the agent's on both sides, under the same id."""
    agent_id = await world.once(world.config)
    old = load_key_pair(world.config.data_dir)
    rotation = KeyRotation(world.config.data_dir)
    async with living(world.without_token) as agent:
        await eventually(lambda: agent.acknowledged >= 1, agent)
        rotation.request()
        await eventually(lambda: not rotation.is_requested, agent)
        await eventually(lambda: agent.acknowledged >= 4, agent)
        shown = await world.shown()
    new = load_key_pair(world.config.data_dir)

    assert old is not None
    assert new is not None
    assert old.public != new.public
    assert (agent_id, True) == (shown["id"], shown["online"])
    assert agent_id == await world.once()


async def test_a_rotation_whose_reply_was_lost_is_settled_at_the_next_start(world: World) -> None:
    """The server took the key, the agent never heard of it: it asks with the next key first."""
    agent_id = await world.once(world.config)
    saved = world.config.data_dir.with_name("saved")
    rotation = KeyRotation(world.config.data_dir)
    async with living(world.without_token) as agent:
        await eventually(lambda: agent.acknowledged >= 1, agent)
        shutil.copytree(world.config.data_dir, saved)
        rotation.request()
        await eventually(lambda: rotation.is_under_way or not rotation.is_requested, agent)
        await eventually(lambda: not rotation.is_requested, agent)
    taken = load_key_pair(world.config.data_dir)
    assert taken is not None
    KeyRotation(saved).request()
    KeyRotation(saved).keep_next(taken)
    lost = replace(world.without_token, data_dir=saved)

    assert agent_id == await world.once(lost)
    assert taken == load_key_pair(saved)


async def test_a_rotation_that_the_server_never_saw_is_dropped_at_the_next_start(world: World) -> None:
    """The old key goes on; nobody becomes a second agent."""
    agent_id = await world.once(world.config)
    old = load_key_pair(world.config.data_dir)
    KeyRotation(world.config.data_dir).keep_next(make_key_pair())

    assert agent_id == await world.once(world.config)
    assert old == load_key_pair(world.config.data_dir)
    assert 1 == len(await world.server.ask("GET", "/v1/agents"))

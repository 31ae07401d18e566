"""Those who should not be there: with stolen tokens, stolen data directories, and what they heard on the wire.

An intruder with a private key is the real agent on the wrong host. One without speaks to the server directly.
"""

from __future__ import annotations

import asyncio
import json
import random
from base64 import urlsafe_b64decode
from contextlib import suppress
from datetime import timedelta

import grpc

from ct_ops_agent.control_plane import Route
from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.enrolment_token import parse_token
from simulation.fleet_host import DAY_S, Host
from simulation.fleet_network import Connection
from simulation.fleet_server import ADDRESS
from simulation.fleet_world import World

_STAYS_DAYS = 40.0


async def steal_token(world: World, dice: random.Random) -> None:
    """Somebody finds an enrolment token, fresh, spent or revoked, and tries it; perhaps under a name of ours."""
    if not world.tokens:
        return
    intruder = new_intruder(world, dice)
    if dice.random() < 0.5 and world.hosts:
        victim = dice.choice(world.hosts)
        intruder.hostname, intruder.machine_id = victim.hostname, victim.machine_id
    intruder.token = parse_token(dice.choice(world.tokens).text)
    await stay(intruder, dice)


async def steal_directory(world: World, dice: random.Random) -> None:
    """A data directory is stolen; it is used when it is good for nothing any more.

    Either its owner has another key by then, or an operator has revoked the agent and its host was installed anew.
    """
    victims = [host for host in world.honest() if host.key_id()]
    if not victims:
        return
    victim = dice.choice(victims)
    intruder = new_intruder(world, dice, type(victim))
    intruder.hostname, intruder.machine_id = victim.hostname, victim.machine_id
    victim.copy(intruder.folder)
    stolen_key = intruder.key_id()
    if not await _make_it_worthless(world, victim, stolen_key, dice):
        return
    await stay(intruder, dice)


async def _make_it_worthless(world: World, victim: Host, stolen_key: str | None, dice: random.Random) -> bool:
    agent_id = await world.active_id(victim)
    if agent_id is None:
        return False
    await world.revoke(agent_id)
    world.excuses[victim.name] += 1
    await victim.wipe()
    await world.invite(victim)
    await asyncio.sleep(dice.uniform(0, 30) * DAY_S)
    return world.network.serving is not None and stolen_key is not None


async def replay_registers(world: World, dice: random.Random) -> None:
    """Somebody who heard agents register says the same again, with and without their proof."""
    heard = list(world.network.heard)
    for raw in dice.sample(heard, min(4, len(heard))):
        place = new_intruder(world, dice).place
        message = wire.RegisterRequest.FromString(raw)
        if dice.random() < 0.5:
            message.ClearField("proof")
        if dice.random() < 0.3:
            message.org_token = dice.choice(world.tokens).text.partition(".")[0] if world.tokens else ""
        with suppress(grpc.aio.AioRpcError):
            connection = world.network.dial(_route(world), None, place)
            reply = await connection.unary("Register", message.SerializeToString())
            await _use(world, connection, wire.RegisterResponse.FromString(reply))


async def _use(world: World, connection: Connection, reply: wire.RegisterResponse) -> None:
    """Try what was handed out: it must be worthless without the private key."""
    by_token = world.ledger.brought_by.get(reply.agent_id) == connection.place.name  # which was still good
    if reply.jwt_token and _audience(reply.jwt_token) != "ct-ops-bootstrap" and not by_token:
        world.ledger.violated(f"{connection.place.name} got an agent token of {reply.agent_id} by a replay")
    stream = connection.stream()
    with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
        await stream.write(wire.HeartbeatRequest(agent_id=reply.jwt_token).SerializeToString())
        await stream.read()
        world.ledger.violated(f"{connection.place.name} was served as {reply.agent_id} without its key")


def _audience(token: str) -> object:
    payload = token.split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("aud")


def _route(world: World) -> Route:
    serving = world.network.serving
    return Route((ADDRESS,), serving.served_tls.current.ca_pem if serving else "")


def new_intruder(world: World, dice: random.Random, like: type[Host] = Host) -> Host:
    """Return a host that nobody invited, with an agent of that sort."""
    number = len(world.intruders) + 1
    intruder = like(world, f"intruder-{number}", number, interval=timedelta(days=world.size.interval_days))
    intruder.place.address = dice.choice((f"203.0.113.{number % 250}", "192.0.2.1"))
    intruder.ended = "never invited"
    world.intruders.append(intruder)
    return intruder


async def stay(intruder: Host, dice: random.Random) -> None:
    """Try for a while."""
    intruder.start()
    await asyncio.sleep(dice.uniform(1, _STAYS_DAYS) * DAY_S)
    await intruder.stop()

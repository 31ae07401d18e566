"""Copies of agents in simulated fleets, and what operators decide about them, days after they were noticed.

A copy ends with its host, or the agent is revoked, or the two are split: then the copy is a host of ours, with a key
and an agent of its own. Operators name the side that they keep by what they can see, or leave it to the server; what
the server keeps is the truth from then on, and every other side may get another identity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct_ops_server.fleet.clones import Clone, CloneDesk, SideUnclearError
from ct_ops_server.fleet.sides import Side
from simulation.fleet_existing import ExistingHost
from simulation.fleet_host import DAY_S, Host
from simulation.fleet_ledger import OPERATOR

if TYPE_CHECKING:
    from simulation.fleet_world import World

_BEATS = 6
_SPEAKS_EVERY_S = 60
_PATIENCE_DAYS = (0.0, 0.0, 4.0, 20.0)
"""How long operators let a quarantine be."""


@dataclass
class Splits:
    """What operators know of clones."""

    act_at_s: dict[str, float] = field(default_factory=dict)
    """When they will decide about an agent in quarantine."""
    sides: dict[str, set[str]] = field(default_factory=dict)
    """Hosts that once were one agent, by its id."""


async def let_copies_speak(world: World) -> None:
    """Let those who are one agent speak as often as real agents do, for a while: that is how copies are noticed."""
    pairs = {host.name for pair in world.ledger.copies.items() for host in _named(world, pair)}
    for _ in range(_BEATS if pairs else 0):
        for host in _named(world, sorted(pairs)):
            if host.process is not None:
                host.process.beat()
            await asyncio.sleep(_SPEAKS_EVERY_S)


async def decide_about_copies(world: World) -> None:
    """Decide about every quarantine whose time has come."""
    serving, known = world.network.serving, world.splits.act_at_s
    if serving is None:
        return
    for clone in await serving.clones.list():
        patience_s = world.dice.choice(_PATIENCE_DAYS) * DAY_S
        due_s = known.setdefault(clone.agent.id, world.now_s() + patience_s)
        if world.is_calm or world.now_s() >= due_s:
            del known[clone.agent.id]
            await _decide(world, serving.clones, clone)


async def _decide(world: World, desk: CloneDesk, clone: Clone) -> None:
    """Find out where the copies are, and end them, or the agent, or let them be hosts of their own."""
    agent_id = clone.agent.id
    owner = world.ledger.owner[agent_id]
    copies = [each for each in _everybody(world) if world.ledger.copies.get(each.name) == owner]
    if not copies and owner not in world.went_back and agent_id not in world.splits.sides:
        world.ledger.violated(f"{agent_id} is in quarantine, and there is no copy of {owner}")
    victim, chance = _named(world, [owner])[0], world.dice.random()
    is_ours = any(copy in world.hosts for copy in copies)
    if copies and (is_ours or chance < 0.4) and await _split(world, desk, agent_id, victim, copies):
        return
    for copy in copies:
        world.ledger.copies.pop(copy.name)
    if copies and not is_ours and chance > 0.7:  # whoever holds the copy goes on trying
        await world.revoke(agent_id)
        await world.reinstall(victim)
        return
    for copy in copies:
        if is_ours:
            await world.reinstall(copy)
        else:
            await copy.wipe()
    await world.approve(agent_id, "the copy is gone")


async def _split(world: World, desk: CloneDesk, agent_id: str, victim: Host, copies: list[Host]) -> bool:
    """Let both stay; False when nobody can tell them apart, which then is not done."""
    is_existing = isinstance(victim, ExistingHost)
    keep = world.dice.choice(("", victim.place.address, "" if is_existing else victim.boot_id))
    try:
        done = await desk.split(agent_id, keep=keep, actor=OPERATOR, reason="both shall stay")
    except SideUnclearError:
        return False
    kept = _who_is(world, done.kept)
    world.ledger.owner[agent_id] = kept
    world.splits.sides.setdefault(agent_id, set()).update(each.name for each in (victim, *copies))
    for copy in copies:
        world.ledger.copies.pop(copy.name)
        if copy not in world.hosts:
            world.hosts.append(copy)
            copy.ended = None
            # What it was as a copy, an agent that took another's place meanwhile, was never its own.
            world.excuses[copy.name] += max(0, len(world.ledger.names[copy.name]) - 1)
    for host in (victim, *copies):
        if host.name != kept:
            world.excuses[host.name] += 1
            if is_existing:  # it makes no key by itself
                await world.reinstall(host)
    return True


def _who_is(world: World, side: Side) -> str:
    """Return who really is a side."""
    if side.boot_id:
        return side.boot_id.partition(" boot ")[0]
    return next(
        host.name for host in _everybody(world) if isinstance(host, ExistingHost) and host.mac in side.macs
    )


def recall_copies(world: World) -> None:
    """After a restore to before a split: who still has the key that was shared is a copy again."""
    for agent_id, sides in world.splits.sides.items():
        owner = _named(world, [world.ledger.owner.get(agent_id)])
        for host in _named(world, sides - {each.name for each in owner}):
            if owner and host.ended is None and host.key_id() == owner[0].key_id() is not None:
                world.ledger.copies[host.name] = owner[0].name


def _named(world: World, names: Iterable[str | None]) -> list[Host]:
    wanted = set(names)
    return [host for host in _everybody(world) if host.name in wanted]


def _everybody(world: World) -> list[Host]:
    return list(dict.fromkeys((*world.hosts, *world.intruders)))

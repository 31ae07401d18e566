"""Two agents that are one host, in simulated fleets: merged days after a host was installed anew, or replaced by it.

An operator finds both in the list. With ``merge`` the new one stays, and the old one is revoked; with ``replace`` the
old one goes on with the new one's key: of the same host, or of new hardware, while the old hardware goes on trying.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from ct_ops_server.fleet.agents import AgentError
from simulation.fleet_host import DAY_S, Host
from simulation.fleet_ledger import OPERATOR
from simulation.fleet_world import World


async def merge(world: World, host: Host, dice: random.Random) -> None:
    """A host is installed anew, and its agent of before is found in the list."""
    former = await world.active_id(host)
    if former is None:
        return
    world.excuses[host.name] += 1
    await host.wipe()
    await world.invite(host)
    await asyncio.sleep(dice.uniform(0.5, 30) * DAY_S)
    serving, current = world.network.serving, await world.active_id(host)
    if serving is None or current in {None, former}:
        return
    with suppress(AgentError):  # somebody has deleted or revoked one of them meanwhile
        await serving.clones.merge(str(current), former, actor=OPERATOR, reason="installed anew")
        world.ledger.barred[former] = "merged into another"


async def replace(world: World, host: Host, successor: Host, dice: random.Random) -> None:
    """New hardware, or the same host installed anew, is to be the agent that there was."""
    former = await world.active_id(host)
    if former is None:
        return
    world.excuses[successor.name] += 2  # to another one, and back
    if successor is host:
        await host.wipe()
    else:
        world.hosts.append(successor)
    await world.invite(successor)
    await asyncio.sleep(dice.uniform(0.5, 30) * DAY_S)
    serving, current = world.network.serving, await world.active_id(successor)
    if serving is None or current in {None, former} or successor.ended is not None:
        return
    with suppress(AgentError):
        await serving.clones.replace(former, str(current), actor=OPERATOR, reason="new hardware")
        world.ledger.barred[str(current)] = "replaced"
        world.ledger.owner[former] = successor.name
        if successor is not host:
            host.ended = "replaced"

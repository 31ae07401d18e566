"""What happens to a simulated fleet. Every event is data: a day, a kind and its own dice.

So a history is a list of events, and a history that fails can be made shorter by leaving events out: the others
do the same as before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_server.authority.life_cycle import Kind
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.fleet.server_ca_desk import Step as ServerCaStep
from simulation import fleet_successions
from simulation.fleet_authorities import make_own_authority, own_number
from simulation.fleet_carrying import carry
from simulation.fleet_existing import ExistingHost
from simulation.fleet_host import DAY_S, Host
from simulation.fleet_intruders import new_intruder, replay_registers, steal_directory, steal_token
from simulation.fleet_world import Size, World

_SHARE_OF_EXISTING = 0.5
"""Of the hosts of fleets that have existing agents."""
_SHARE_OF_WINDOWS = 0.3
"""Of existing agents: there nobody starts one again that has ended itself."""


@dataclass(frozen=True)
class Event:
    """Something that happens."""

    day: float
    kind: str
    dice: int

    def __str__(self) -> str:
        return f"day {self.day:7.1f}  {self.kind}  ({self.dice})"


Deed = Callable[[World, random.Random], Awaitable[None]]


async def install(world: World, dice: random.Random) -> None:
    """A host is installed with a token of its own, approved at once or by hand."""
    is_existing = world.has_existing and dice.random() < _SHARE_OF_EXISTING
    host = new_host(world, ExistingHost if is_existing else Host)
    host.is_windows = (
        is_existing and random.Random(f"{world.seed} {host.name} os").random() < _SHARE_OF_WINDOWS
    )
    host.place.bad = dice.choice((0.0, 0.02, 0.1))
    world.hosts.append(host)
    terms = TokenTerms(
        host.name,
        auto_approve=dice.random() < 0.7,
        max_uses=dice.choice((1, 1, 3, None)),
        expires_at=world.installation.now() + timedelta(days=dice.choice((1, 30, 200))),
        hostname_pattern=dice.choice(("", "HOST-*")),
        networks=dice.choice(((), ("192.0.2.0/24",))),
    )
    await world.invite(host, terms)


async def restart(world: World, dice: random.Random) -> None:
    """An agent's process ends, politely or not, and starts again."""
    if host := one_of(world, dice):
        await host.restart(crash=dice.random() < 0.6)


async def switch_off(world: World, dice: random.Random) -> None:
    """A host is off for a while, up to half a year."""
    if host := one_of(world, dice):
        await host.stop(crash=dice.random() < 0.5)
        await asyncio.sleep(days(dice, 1, 200))
        if host.process is None and host.ended is None:
            host.start()


async def lose_network(world: World, dice: random.Random) -> None:
    """Some hosts lose their network."""
    chosen = [host for host in world.honest() if dice.random() < 0.5]
    for host in chosen:
        host.place.is_cut_off = True
        host.place.cut()
    await asyncio.sleep(days(dice, 0.01, 120))
    for host in chosen:
        host.place.is_cut_off = False


async def stop_server(world: World, dice: random.Random) -> None:
    """The server is away: a restart, an upgrade, a disk that has to be replaced."""
    serving = world.network.serving
    if serving is None:
        return
    if dice.random() < 0.5:
        await serving.stop()
    else:
        serving.crash()
    await asyncio.sleep(dice.choice((1.0, 60.0, days(dice, 0.1, 30))))
    await world.start_server()


async def set_clock(world: World, dice: random.Random) -> None:
    """A host's clock jumps, and is set right after a while."""
    if host := one_of(world, dice):
        world.jumped.add(host.name)
        host.clock_is_off_s = days(dice, -400, 400) * dice.choice((1.0, 0.01))
        await asyncio.sleep(days(dice, 0.1, 60))
        host.clock_is_off_s = 0.0


async def set_clock_of_server(world: World, dice: random.Random) -> None:
    """The server's clock jumps; somebody notices within days."""
    world.installation.clock_is_off = timedelta(seconds=days(dice, -30, 120) * dice.choice((1.0, 0.01)))
    await asyncio.sleep(days(dice, 0.1, 6))
    world.installation.clock_is_off = timedelta(0)


async def leap_of_server_clock(world: World, dice: random.Random) -> None:
    """The server's clock jumps by years, forward or back; somebody sets it right within days."""
    world.installation.clock_is_off = timedelta(seconds=days(dice, 300, 4_500)) * dice.choice((1, 1, -1))
    await asyncio.sleep(days(dice, 0.01, 6))
    world.installation.clock_is_off = timedelta(0)


async def back_up(world: World, _dice: random.Random) -> None:
    """A backup of the server is made."""
    world.back_up()


async def restore(world: World, dice: random.Random) -> None:
    """The server is restored from a backup."""
    await world.restore(dice)


async def copy_directory(world: World, dice: random.Random) -> None:
    """A backup of a host's data directory is made."""
    if host := one_of(world, dice):
        to = world.folder / f"copy {world.number()}"
        world.directories.append((host, host.copy(to)))


async def restore_directory(world: World, dice: random.Random) -> None:
    """A host's data directory goes back in time."""
    kept = [(host, copy) for host, copy in world.directories if host.ended is None]
    if kept:
        host, copy = dice.choice(kept)
        world.has_gone_back = True
        world.went_back.add(host.name)
        world.excuses[host.name] += 1  # it may go back to before it was admitted, or to an older key
        await host.go_back(copy)


async def clone(world: World, dice: random.Random) -> None:
    """A data directory, or a whole machine, is copied, and the copy runs beside the original."""
    if (host := one_of(world, dice)) is None or await world.active_id(host) is None:
        return
    copy = new_intruder(world, dice, type(host))
    copy.hostname = host.hostname
    copy.machine_id = dice.choice((host.machine_id, copy.machine_id))
    world.has_gone_back = True
    world.ledger.copies[copy.name] = host.name
    world.copied.add(host.name)
    host.copy(copy.folder)
    copy.start()


async def merge(world: World, dice: random.Random) -> None:
    """A host is installed anew, and an operator merges its two agents days later."""
    if host := one_of(world, dice):
        await fleet_successions.merge(world, host, dice)


async def replace(world: World, dice: random.Random) -> None:
    """A host, or new hardware for it, is installed, and takes the place of the agent that there was."""
    if host := one_of(world, dice):
        successor = host if dice.random() < 0.5 else new_host(world)
        await fleet_successions.replace(world, host, successor, dice)


async def reinstall(world: World, dice: random.Random) -> None:
    """A host is installed anew; its old agent is still there."""
    if host := one_of(world, dice):
        world.excuses[host.name] += 1
        await host.wipe()
        await world.invite(host)


async def rotate_key(world: World, dice: random.Random) -> None:
    """Somebody asks for a new key on a host."""
    if (host := one_of(world, dice)) and host.key_id():
        KeyRotation(host.folder).request()


async def revoke(world: World, dice: random.Random) -> None:
    """An operator revokes an agent."""
    if (host := one_of(world, dice)) and (agent_id := await world.active_id(host)):
        host.ended = "revoked"
        await world.revoke(agent_id)


async def delete(world: World, dice: random.Random) -> None:
    """An operator deletes an agent; its host tries to come back for a while, and is switched off."""
    if (host := one_of(world, dice)) and (agent_id := await world.active_id(host)):
        host.ended = "deleted"
        await world.delete(agent_id)


async def revoke_token(world: World, dice: random.Random) -> None:
    """An operator revokes an enrolment token."""
    serving = world.network.serving
    if serving is not None and world.tokens:
        token = dice.choice(world.tokens)
        await world.revoke_token(token)


async def rotate_authority(world: World, dice: random.Random) -> None:
    """Operators begin to rotate the agent CA, or the key of agent tokens; some hurry at the end."""
    world.rotating[dice.choice((Kind.CA, Kind.CA, Kind.JWT))] = dice.random() < 0.3


async def hurry(world: World, _dice: random.Random) -> None:
    """Operators rotate the agent CA, and make agents renew by the new one instead of waiting."""
    world.rotating[Kind.CA] = False
    world.must_hurry = True


async def bring_authority(world: World, dice: random.Random) -> None:
    """Operators bring an agent CA of their own, by a command, or by the settings and another start; or renew that one."""
    world.rotating.setdefault(Kind.CA, False)
    if dice.random() < 0.5:
        world.brought = make_own_authority(world, dice)
        return
    renews = world.named if dice.random() < 0.5 else None
    own = make_own_authority(world, dice, renews=renews)
    world.named = own_number(own)
    world.installation.name_authority(own.pem, own.key_pem)
    if world.network.serving is not None:
        await world.network.serving.stop()
        await world.start_server()


async def change_server_ca(world: World, dice: random.Random) -> None:
    """Operators begin to change the CA that agents believe the server by; some do it once more, and then have agents forget both."""
    steps = [ServerCaStep.PREPARE, ServerCaStep.ACTIVATE] * (2 if dice.random() < 0.4 else 1)
    world.server_ca_steps = world.server_ca_steps or [*steps, ServerCaStep.RETIRE]


KINDS: dict[str, tuple[int, Deed]] = {
    "restart": (6, restart),
    "switch off": (5, switch_off),
    "lose network": (5, lose_network),
    "stop server": (5, stop_server),
    "set clock": (4, set_clock),
    "set clock of server": (2, set_clock_of_server),
    "back up": (4, back_up),
    "restore": (2, restore),
    "copy directory": (3, copy_directory),
    "restore directory": (2, restore_directory),
    "reinstall": (2, reinstall),
    "rotate key": (5, rotate_key),
    "revoke": (1, revoke),
    "delete": (1, delete),
    "revoke token": (2, revoke_token),
    "clone": (3, clone),
    "merge": (2, merge),
    "replace": (2, replace),
    "rotate authority": (3, rotate_authority),
    "hurry": (2, hurry),
    "bring authority": (2, bring_authority),
    "leap of server clock": (1, leap_of_server_clock),
    "change server CA": (2, change_server_ca),
    "carry": (2, carry),
    "steal token": (4, steal_token),
    "steal directory": (3, steal_directory),
    "replay registers": (4, replay_registers),
}
"""By name: how often, and what."""

INSTALL = "install"


def plan(seed: int, size: Size, kinds: Sequence[str] = ()) -> list[Event]:
    """Return the events of a history; of some kinds that its dice choose, or of these."""
    dice = random.Random(f"{seed} plan")
    first = [Event(dice.uniform(0, size.days / 4), INSTALL, dice.getrandbits(32)) for _ in range(size.hosts)]
    chosen = list(kinds) or dice.sample(sorted(KINDS), dice.randint(4, len(KINDS)))
    weights = [KINDS[kind][0] for kind in chosen]
    later = [
        Event(dice.uniform(1, size.days), dice.choices(chosen, weights)[0], dice.getrandbits(32))
        for _ in range(size.events)
    ]
    return sorted([*first, *later], key=lambda event: event.day)


async def happen(world: World, event: Event) -> None:
    """Let an event happen, to its end."""
    deed = install if event.kind == INSTALL else KINDS[event.kind][1]
    await deed(world, random.Random(event.dice))


def new_host(world: World, sort: type[Host] = Host) -> Host:
    """Return a host that is not there yet, with an agent of ours or an existing one."""
    number = len(world.hosts) + 1
    return sort(world, f"host-{number:03d}", number, interval=timedelta(days=world.size.interval_days))


def one_of(world: World, dice: random.Random) -> Host | None:
    """Return a host that somebody still expects; always draws once."""
    chance, honest = dice.random(), world.honest()
    return honest[int(chance * len(honest))] if honest else None


def days(dice: random.Random, least: float, most: float) -> float:
    """Return some days, in seconds."""
    return dice.uniform(least, most) * DAY_S

"""Random histories of delivery: nothing is lost in silence, and it always drains.

``CT_OPS_HISTORIES=100000`` tries more than the 2,000 of the suite (1,500, and every third once more without anything going back). A history that fails is its seed.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ct_ops_agent.delivery.draft import Room
from ct_ops_agent.delivery.position import Step
from ct_ops_agent.delivery.space import Limits
from simulation.delivery_world import (
    DAY_MS,
    PLENTY,
    Agent,
    CrashError,
    Directory,
    World,
    fused_connection,
)

HISTORIES = int(os.environ.get("CT_OPS_HISTORIES", "1500"))
_PARTS = 10
_STEPS = 25
_MOST_AGENTS = 3
TIGHT = Limits(100_000, 2 * DAY_MS)

Deed = Callable[[World, Agent], None]


def network(world: World, agent: Agent) -> None:
    """One step of a stream, or its end."""
    match world.random.randrange(9):
        case 0 | 1:
            agent.connect()
        case 2 | 3:
            agent.send()
        case 4 | 5:
            agent.be_answered()
        case 6:
            agent.hear()
        case 7:
            agent.hang_up()
        case _:
            world.commit_stray()


def life(world: World, agent: Agent) -> None:
    """Something is measured and, as a rule, brought home."""
    agent.put(world.random.randint(1, 8))
    if world.random.random() < 0.3:
        return
    if not agent.connected:
        agent.connect()
    for _ in range(world.random.randint(1, 4)):
        agent.send()
        agent.be_answered()
        if world.random.random() < 0.1:
            agent.hang_up()  # stored, and the acknowledgement is lost
            return
        agent.hear()


def time_passes(world: World, _agent: Agent) -> None:
    """Minutes, or more than what was acknowledged is kept for."""
    world.now_ms += world.random.choice((60_000, 3_600_000, 30 * 3_600_000))


def server_goes_back(world: World, _agent: Agent) -> None:
    """A backup is made, or used."""
    if world.random.random() < 0.5 or not world.server.backups:
        world.server.back_up()
    else:
        world.restore_server()


class Directories:
    """Copies of data directories: restored, or given to another process."""

    def __init__(self) -> None:
        self._copies: list[Directory] = []

    def __call__(self, world: World, agent: Agent) -> None:
        """Copy one, put a copy back, or run a second agent on it."""
        chance = world.random.random()
        if chance < 0.5 or not self._copies:
            self._copies.append(agent.copy())
            return
        copy = world.random.choice(self._copies)
        twin = Agent(world, fused_connection(copy.image), set(copy.known))
        if chance < 0.8 or len(world.agents) == _MOST_AGENTS:
            agent.hang_up()
            world.agents.remove(agent)
        world.agents.append(twin)


class Moving:
    """The agents are sent to another server, once."""

    def __init__(self) -> None:
        self._moved = False

    def __call__(self, world: World, _agent: Agent) -> None:
        """Move, or do something else."""
        if self._moved or world.random.random() < 0.7:
            return
        self._moved = True
        world.move()


def live(world: World, deeds: list[Deed], steps: int = _STEPS) -> None:
    """Let random things happen, with crashes between any two statements."""
    for _ in range(steps):
        agent = world.random.choice(world.agents)
        if world.random.random() < 0.15:
            agent.connection.fuse = world.random.randrange(30)
        try:
            world.random.choice(deeds)(world, agent)
        except CrashError:
            agent.crash_and_start()
        agent.connection.fuse = None


def end_well(world: World) -> None:
    """Bring everything home and judge."""
    for agent in world.agents:
        agent.drain()
    for agent in world.agents:
        agent.drain()  # a clone may have told the other's story
    world.judge()


def histories(part: int) -> range:
    """Return the seeds of one part of the suite's histories."""
    size = HISTORIES // _PARTS
    return range(part * size, (part + 1) * size)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(_PARTS))
def test_crashes_and_a_bad_network_lose_nothing_and_repeat_nothing(part: int) -> None:
    """With nothing ever going back in time each item is stored exactly once, and no gap is reported."""
    for seed in histories(part)[::3]:
        world = World(seed)
        live(world, [life, network, network, time_passes])
        end_well(world)

        agent = world.agents[0]
        assert [] == world.server.gaps(), seed
        assert agent.known <= world.server.things(), seed
        assert {1} >= set(world.server.writes.values()), seed
        assert {Step.GO_ON, Step.LOST_ACKNOWLEDGEMENT} >= set(agent.steps), seed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(_PARTS))
def test_no_history_loses_anything_in_silence(part: int) -> None:
    """Restored and cloned data directories, restored servers, another server, too little room, all at once."""
    for seed in histories(part):
        world = World(seed, limits=TIGHT if seed % 3 == 0 else PLENTY)
        kinds: list[Deed] = [server_goes_back, Directories(), Moving(), time_passes]
        chosen = world.random.sample(kinds, world.random.randint(1, len(kinds)))
        try:
            live(world, [life, life, network, network, *chosen])
            end_well(world)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


def test_a_server_that_takes_less_than_was_frozen_is_told_what_is_missing() -> None:
    """It blocks nothing: what is too large becomes a gap."""
    world = World(1)
    agent = world.agents[0]
    agent.put(12)
    agent.connect()
    agent.send()
    world.room = Room(30, 60)
    agent.hang_up()
    agent.put(5)
    end_well(world)

    assert {"larger than the server takes"} == {gap.reason for gap in world.server.gaps()}

"""One history: a seed and a size in, what went wrong out; and the shortest list of events that still does."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from simulation.fleet_events import Event, happen, plan
from simulation.fleet_host import seeded_keys
from simulation.fleet_world import Size, World
from simulation.virtual_time import VirtualLoop

_STEP_AGAIN_S = 21_600.0
"""How often a hurry is gone on with, instead of every second: it may have to wait for hosts for months."""
_MOST_ATTEMPTS = 60
"""Histories that are lived to make one shorter."""


@dataclass(frozen=True)
class Outcome:
    """How a history ended."""

    seed: int
    size: Size
    events: tuple[Event, ...]
    violations: tuple[str, ...]
    heartbeats: int = 0
    trace: tuple[tuple[float, str, str], ...] = ()
    """When who was heard last, and as whom."""

    @property
    def failed(self) -> bool:
        """Whether something happened that must not."""
        return bool(self.violations)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.size}"]
        lines += [f"  {event}" for event in self.events]
        lines += [f"  !! {violation}" for violation in self.violations[:8]]
        return "\n".join(lines)


def live(seed: int, size: Size, events: Sequence[Event] | None = None) -> Outcome:
    """Live a history to its end, or to the first thing that must not happen."""
    events = tuple(plan(seed, size) if events is None else events)
    with _folder() as folder, _quiet(), _seeded(seed):
        loop = VirtualLoop()
        try:
            return loop.run_until_complete(_live(seed, size, events, folder, loop))
        finally:
            loop.close()


async def _live(seed: int, size: Size, events: tuple[Event, ...], folder: Path, loop: VirtualLoop) -> Outcome:
    world = World(seed, size, folder)
    loop.set_exception_handler(lambda _loop, context: world.ledger.violated(f"unhandled: {context}"))
    rounds, happening = asyncio.create_task(world.run_rounds()), set[asyncio.Task[None]]()
    try:
        await world.installation.start()
        for event in events:
            await world.until(event.day)
            if world.ledger.violations:
                break
            happening.add(asyncio.create_task(_happen(world, event)))
        if not world.ledger.violations:
            await asyncio.gather(*happening)
            await world.until(size.days)
            world.is_calm = True
            await rounds
            await world.calm_down()
            world.judge()
    finally:
        for task in (rounds, *happening):
            task.cancel()
        await asyncio.wait((rounds, *happening))
        if not rounds.cancelled() and (error := rounds.exception()):
            world.ledger.violated(f"a round failed: {error!r}")
        await world.end()
        await _end_all_tasks()
    ledger = world.ledger
    trace = tuple((at_s, who, agent_id) for who, (agent_id, at_s) in ledger.heard.items())
    return Outcome(seed, size, events, tuple(ledger.violations), ledger.heartbeats, trace)


async def _end_all_tasks() -> None:
    """End what serves connections that nobody has noticed to be gone: the loop is this history's own."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _happen(world: World, event: Event) -> None:
    try:
        await happen(world, event)
    except Exception as error:  # noqa: BLE001 - a defect of ours or of the product: the history has failed
        world.ledger.violated(f"{event.kind} failed: {error!r}")


def shortest(outcome: Outcome, attempts: int = _MOST_ATTEMPTS) -> Outcome:
    """Return the failed history with as few events as can be found in so many attempts."""
    best, step = outcome, max(1, len(outcome.events) // 2)
    while attempts > 0:
        for at in range(0, len(best.events), step):
            fewer = best.events[:at] + best.events[at + step :]
            attempts -= 1
            if (shorter := live(best.seed, best.size, fewer)).failed:
                best = shorter
                break
            if attempts <= 0:
                break
        else:
            if step == 1:
                break
            step //= 2
    return best


_open = serialization.load_pem_private_key


@lru_cache(maxsize=1_000)
def _opened(pem: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    return _open(pem, passphrase)


@cache
def _signing_key(_number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


@contextmanager
def _folder() -> Iterator[Path]:
    """Return a folder in memory, where there is one: thousands of files are synced."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ct-ops-fleet-", dir=place) as folder:
        yield Path(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing: a fleet of years logs more than anybody reads."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Have the agents make keys of the seed's, hope for less long, and not look at this machine's network cards and roots.

    What is slow about the server's keys, to make and to unseal them, is done once for all histories.
    """
    make, keys = seeded_keys(random.Random(f"{seed} keys")), map(_signing_key, itertools.count())
    with (
        mock.patch("ct_ops_server.authority.sealing.serialization.load_pem_private_key", _opened),
        mock.patch("ct_ops_server.authority.jwks._generate", keys.__next__),
        mock.patch("ct_ops_agent.enrolment.make_key_pair", make),
        mock.patch("ct_ops_agent.identity.certificates.make_key_pair", make),
        mock.patch("ct_ops_agent.transport.control_plane.read_interfaces", tuple),
        mock.patch("ct_ops_agent.route.read_system_roots", str),
        mock.patch("ct_ops_agent.lifecycle._HOPEFUL_FAILURES", 3),
        mock.patch("ct_ops_server.fleet.hurry._STEP_AGAIN_S", _STEP_AGAIN_S),
    ):
        yield

"""Hurry: making agents renew their leaves now, because the agent CA of the old ones is to go soon.

It costs an existing agent its process (rule 22): a leaf that is pushed makes it exit, and its service manager
starts it again 5 s later; on Windows nobody does. So the pace is slow and the rules are strict:

* one agent every three seconds, which is at most 20 a minute, by the database's clock and for all workers together;
* none with a task under way, never an existing agent on Windows;
* when three are not back within two minutes it halts, and somebody has to look.

Agents of ours lose nothing: they are asked for a renewal on their stream, at the same pace.

A hurry is a row, so it goes on after a restart and with any number of workers; starting it again after a halt leaves
those who did not come back alone. ``decide`` is pure; ``store.hurry`` carries it out in one transaction a step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.fleet.work import NewLeaf, Work

TOPIC = "hurry"
"""Somebody was picked."""
STEP_TOPIC = "hurry step"
"""A step may be due; asked every five seconds anyway."""
LOOK_EVERY = timedelta(seconds=5)
FEATURE = "hurry"
"""The feature of agents that renew when they are asked to."""

BETWEEN_MS = 3_000
BACK_WITHIN_MS = 120_000
MOST_MISSING = 3
_STEP_AGAIN_S = 1.0
_log = logging.getLogger("ct_ops_server.hurry")


class HurryState(StrEnum):
    """Where a hurry is."""

    RUNNING = "running"
    HALTED = "halted"
    STOPPED = "stopped"
    DONE = "done"


class Act(StrEnum):
    """What a step does."""

    WAIT = "wait"
    SEND = "send"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class Hurry:
    """How a hurry is."""

    target: bytes
    """SHA-256 of the agent CA whose leaves agents shall have."""
    state: HurryState
    reason: str
    """Why it halted, or ended; empty while it runs."""
    started_by: str
    started_at: datetime
    asked: int
    """Agents that were made to renew."""
    back: int
    missing: tuple[str, ...]
    """Host names of those that did not come back in time."""
    remaining: int
    """Active agents that have no leaf of the target yet."""
    left_alone: int
    """Of these: existing agents on Windows, which nobody would start again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one stream is to be told now."""

    stream: LiveStream
    public_key_der: bytes = field(repr=False)


class HurryStore(Protocol):
    """The rows: ``store.hurry``."""

    async def start_hurry(self, *, actor: str) -> None:
        """Start one for the agent CA that signs, or go on with it, without those that did not come back."""

    async def stop_hurry(self, *, actor: str) -> bool:
        """Stop it; False when none runs."""

    async def hurry(self) -> Hurry | None:
        """Return how the latest one is."""

    async def step_hurry(self) -> HurryState | None:
        """Take a step if one is due; return the state after it."""

    async def claim_hurried(self, streams: Sequence[LiveStream]) -> Sequence[Claim]:
        """Return which of these streams are to be told now. Each is returned once."""


def decide(*, now_ms: int, last_sent_ms: int | None, missing: int) -> Act:
    """Decide a step.

    Args:
        now_ms: the database's clock.
        last_sent_ms: when the latest agent was made to renew.
        missing: how many are not back in time.
    """
    if missing >= MOST_MISSING:
        return Act.HALT
    # A clock that went back must not make us wait until it is there again.
    if last_sent_ms is not None and 0 <= now_ms - last_sent_ms < BETWEEN_MS:
        return Act.WAIT
    return Act.SEND


class HurryRun:
    """This process's part: steps while one runs, and tells its own streams (``dispatch.Provider``)."""

    topic = TOPIC

    def __init__(
        self,
        store: HurryStore,
        *,
        hint: Callable[[str], None],
        observe: Callable[[HurryState | None], None],
        issue: Issue,
    ) -> None:
        """Prepare.

        Args:
            store: the rows.
            hint: of the bus of this process.
            observe: told the state after each step.
            issue: signs a leaf that is pushed to an existing agent.
        """
        self._store = store
        self._hint = hint
        self._observe = observe
        self._issue = issue
        self._state: HurryState | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def tick(self) -> None:
        """Take one step if it is due (the bus does that, at `STEP_TOPIC`); while one runs, again a second later."""
        before = self._state
        try:
            self._state = await self._store.step_hurry()
        except StoreError as error:
            _log.warning("the hurry waits for the database: %s", error)
            return
        self._observe(self._state)
        if self._state is HurryState.RUNNING:
            self._hint(TOPIC)
            self._step_again()
        elif self._state is HurryState.HALTED and before is HurryState.RUNNING:
            _log.error(
                "the hurry has halted: %d agents did not come back within 2 minutes after they were made to renew; look at "
                "them (`ct-ops-server ca status`), then go on with `ct-ops-server ca rotate --hurry`",
                MOST_MISSING,
            )

    def _step_again(self) -> None:
        if self._timer is not None:
            self._timer.cancel()  # else each look of the bus would begin another row of ticks
        self._timer = asyncio.get_running_loop().call_later(_STEP_AGAIN_S, self._hint, STEP_TOPIC)

    async def due(self, streams: Sequence[LiveStream]) -> Mapping[LiveStream, Work]:
        """Return the leaf for each stream here that is to renew now; asks nobody while no hurry runs."""
        if self._state is not HurryState.RUNNING:
            return {}
        claims = await self._store.claim_hurried(streams)
        return {claim.stream: Work(new_leaf=await self._leaf_for(claim)) for claim in claims}

    async def _leaf_for(self, claim: Claim) -> NewLeaf:
        if FEATURE in claim.stream.features:
            return NewLeaf()
        return await self._issue(claim.stream.agent_id, claim.public_key_der)


class Issue(Protocol):
    """Signs a leaf for an agent's key."""

    async def __call__(self, agent_id: str, public_key_der: bytes, /) -> NewLeaf:
        """Return it. May raise ``StoreError``."""

"""The life of one virtual agent within a run: start, register, stay connected, beat, and come back.

Whatever goes wrong is counted and followed by what an agent does:

    Register     put off (``ct-ops-retry-after-ms``) or UNAVAILABLE   again, later and later
                 anything else, or not approved                       given up: counted as failed or pending
    stream       cut by a fault of the plan                           counted as cut; back when the fault is over
                 ended with ``ct-ops-reconnect-within-ms``            counted as broken; back at a moment within that time
                 put off                                              back when the server said
                 UNAVAILABLE, or the end of an open stream            counted as broken; back with our agents' waits
                 refused before its first acknowledgement             counted as refused; back with those waits
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from functools import partial

from ct_ops_agent.backoff import Backoff
from ct_ops_loadtest.connection import RpcError
from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.plan import Plan, Target, share_of
from ct_ops_loadtest.shared import SharedConnections
from ct_ops_loadtest.simulated_work import SimulatedWork
from ct_ops_loadtest.virtual_agent import NotApprovedError, VirtualAgent, Vitals
from ct_ops_proto.agent.v1 import ingest_pb2 as wire

_RETRY_AFTER = "ct-ops-retry-after-ms"
_WITHIN = "ct-ops-reconnect-within-ms"
_MS = 1000.0
_LONGEST_ASKED_S = 3600.0
_FIRST_S, _HOPEFUL_S, _CEILING_S, _HOPEFUL_FAILURES = 1.0, 4.0, 60.0, 30


@dataclass
class Ground:
    """What the agents of one process share."""

    target: Target
    plan: Plan
    tally: Tally
    anonymous: ssl.SSLContext
    """For Register."""
    turns: asyncio.Semaphore
    """Registrations and handshakes at a time."""
    connections: SharedConnections
    began_s: float
    unsettled: int
    """Agents that were neither served nor refused yet."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """There are none."""
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the agents of all processes are settled."""

    def settle(self) -> None:
        """One more agent was served for the first time, or was not."""
        self.unsettled -= 1
        if self.unsettled == 0:
            self.settled.set()


class Life:
    """One agent's."""

    def __init__(self, ground: Ground, number: int) -> None:
        self._ground = ground
        self._plan, self._tally = ground.plan, ground.tally
        self._number = number
        self._is_slow = ground.plan.is_slow(number)
        self._agent: VirtualAgent | None = None
        self._work: SimulatedWork | None = None
        self._backoff: Backoff | None = None
        self._beats = 0
        self._attempts = 0
        self._away_until_s: float | None = None
        """Set by a fault: when it is over."""
        self._lost_at_s: float | None = None
        self._is_settled = False

    async def run(self) -> None:
        """Live until cancelled, or until nothing can be done any more."""
        try:
            await asyncio.sleep(
                max(0.0, self._ground.began_s + self._plan.starts_s(self._number) - time.monotonic())
            )
            self._agent = VirtualAgent(self._ground.target, self._plan.hostname(self._number), self._asked)
            if await self._registered(self._agent):
                await self._stay_connected(self._agent)
        finally:
            self._settle()

    def hit(self, away_s: float) -> None:
        """A fault of the plan: break off, and stay away for a while."""
        self._away_until_s = time.monotonic() + away_s
        if self._agent is not None:
            self._agent.cut()

    def close(self) -> None:
        """Say goodbye."""
        if self._agent is not None:
            self._agent.close()

    # ---- enrolment -------------------------------------------------------------------------------

    async def _registered(self, agent: VirtualAgent) -> bool:
        while True:
            try:
                async with self._ground.turns:
                    began_s = time.monotonic()
                    await agent.register(self._ground.anonymous)
            except NotApprovedError as error:
                self._tally.pending += 1
                self._tally.failure(str(error))
                return False
            except RpcError as error:
                if not await self._may_register_again(error):
                    return False
            else:
                now_s = time.monotonic()
                self._tally.registered += 1
                self._tally.registering.add(now_s - began_s)
                self._tally.registering_s = now_s - self._ground.began_s
                self._reset()
                return True

    async def _may_register_again(self, error: RpcError) -> bool:
        asked_s = _asked_s(error)
        if asked_s:
            self._tally.put_off += 1
        else:
            self._tally.failure(str(error))
        if not asked_s and error.code != "UNAVAILABLE":
            self._tally.failed += 1
            return False
        self._settle()
        await asyncio.sleep(self._wait_s(asked_s))
        return True

    # ---- the stream ------------------------------------------------------------------------------

    async def _stay_connected(self, agent: VirtualAgent) -> None:
        while True:
            is_open = False
            try:
                async with self._ground.turns:
                    await self._open(agent)
                is_open = True
                self._tally.connected += 1
                await self._beat(agent)
            except RpcError as error:
                self._tally.connected -= is_open
                if self._plan.fanout == 1:
                    agent.cut()  # the stream has ended, its connection may not have
                if is_open:
                    self._lost_at_s = self._away_until_s or time.monotonic()
                wait_s = self._count_end(error, is_open=is_open)
                self._settle()
                await asyncio.sleep(wait_s)

    async def _open(self, agent: VirtualAgent) -> None:
        began_s = time.monotonic()
        bytes_per_s = self._plan.slow.bytes_per_s if self._is_slow else 0.0
        connection = await self._ground.connections.connection(self._number, agent, bytes_per_s=bytes_per_s)
        try:
            await agent.open(connection)
        except BaseException:
            if self._plan.fanout == 1:
                connection.close()
            raise
        now_s = time.monotonic()
        self._tally.streams += 1
        self._tally.connecting.add(now_s - began_s)
        if self._lost_at_s is not None:
            self._tally.reconnecting.add(now_s - self._lost_at_s)
            self._lost_at_s = None
        self._reset()
        self._settle()

    async def _beat(self, agent: VirtualAgent) -> None:
        """Beat until the stream ends."""
        if self._plan.interval_s:
            await self._rest(agent, self._plan.first_beat_s(self._number))
        else:
            while not self._ground.hold.is_set():
                await agent.rest(0.05)
        while True:
            await self._exchange(agent, self._frame(agent))
            if self._plan.interval_s:
                self._beats += 1
                await self._rest(agent, self._plan.pause_s(self._number, self._beats))
            else:
                await self._do_work(agent)

    async def _rest(self, agent: VirtualAgent, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        await self._do_work(agent)
        while (left_s := until_s - time.monotonic()) > 0:
            await agent.rest(left_s)
            await self._do_work(agent)

    async def _do_work(self, agent: VirtualAgent) -> None:
        while self._work is not None and (step := self._work.next_step()) is not None:
            if step.upload:
                await agent.upload(step.upload)
            else:
                await self._exchange(agent, agent.frame(agent.agent_id, **step.fields))

    async def _exchange(self, agent: VirtualAgent, frame: bytes) -> None:
        self._tally.sent += 1
        if self._is_slow and self._plan.slow.read_after_s:
            agent.pause_reading()
            asyncio.get_running_loop().call_later(self._plan.slow.read_after_s, agent.resume_reading)
        try:
            round_trip_s = await agent.exchange(frame)
        except RpcError:
            self._tally.unanswered += self._away_until_s is None
            raise
        self._tally.acknowledged += 1
        self._tally.held += self._ground.hold.is_set()
        (self._tally.slow_round_trips if self._is_slow else self._tally.round_trips).add(round_trip_s)

    def _frame(self, agent: VirtualAgent) -> bytes:
        jitter = self._plan.metrics_jitter
        factor = 1 + jitter * (2 * share_of(self._number, self._beats) - 1) if self._plan.interval_s else 1.0
        work = self._work.results_due(time.monotonic()) if self._work is not None else {}
        return agent.frame(agent.agent_id, Vitals(7 * factor, 40 * factor, 40 * factor), **work)

    # ---- what goes wrong -------------------------------------------------------------------------

    def _count_end(self, error: RpcError, *, is_open: bool) -> float:
        """Count the end of a stream; return how long to wait before the next one."""
        if (until_s := self._away_until_s) is not None:
            self._away_until_s = None
            self._tally.cut += is_open
            return max(0.0, until_s - time.monotonic())
        asked_s = _asked_s(error)
        if asked_s:
            self._tally.put_off += 1
            return self._wait_s(asked_s)
        self._tally.failure(str(error))
        if is_open and (within_s := _asked_s(error, _WITHIN)):
            self._tally.broken += 1
            return within_s * self._chance("within")
        if is_open or error.code == "UNAVAILABLE":
            self._tally.broken += is_open
        else:
            self._tally.refused += 1
        return self._wait_s(0.0)

    def _wait_s(self, asked_s: float) -> float:
        if self._backoff is None:
            self._backoff = Backoff(
                first=_FIRST_S, ceiling=_CEILING_S, hopeful=_HOPEFUL_S, hopeful_failures=_HOPEFUL_FAILURES,
                random=partial(self._chance, "wait"),
            )  # fmt: skip
        return self._backoff.next_delay(at_least=asked_s)

    def _chance(self, what: str) -> float:
        self._attempts += 1
        return share_of(self._plan.seed, what, self._number, self._attempts)

    def _reset(self) -> None:
        if self._backoff is not None:
            self._backoff.reset()

    def _settle(self) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._ground.settle()

    def _asked(self, reply: wire.HeartbeatResponse) -> None:
        if self._work is None:
            self._work = SimulatedWork(self._number, self._plan, self._tally)
        assert self._agent is not None
        self._work.take(reply, self._agent.agent_id)


def _asked_s(error: RpcError, key: str = _RETRY_AFTER) -> float:
    """Return how long the server asks us to wait, as our agents understand it; 0 when it does not."""
    text = error.metadata.get(key, "")
    return min(int(text) / _MS, _LONGEST_ASKED_S) if text.isdecimal() else 0.0

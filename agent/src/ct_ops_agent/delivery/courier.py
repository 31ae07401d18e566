"""The courier: between those who put, the outbox, and one stream after the other.

Those who put: `put` and `put_samples` return when what they gave is in the outbox, results durably. What
comes while the disk is busy is written together (one sync for many).

The stream: `begin` after its first reply, then `next_batch`, `answered`, `next_batch` … until it ends. Nothing
that a stream leaves half done matters: the outbox knows what is frozen, and the next welcome is compared.

* Samples go with heartbeats: after each one everything that waits is sent, then nothing until the next, so
  that they do not cost a transaction of the server each. Results go at once.
* The server sets the pace: `retry_after` beside STORED, and LATER, which waits longer each time.
* With a server that takes no batches (an existing one) results ride in frames: taken out of the outbox,
  then sent, and forgotten. Those that somebody waits for ask for a frame at once. There is no place for
  samples; they are not kept, and a gap says how many.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ct_ops_agent.backoff import Backoff
from ct_ops_agent.batches import Batch, BatchAck, Position, Verdict, Welcome
from ct_ops_agent.clock import Clock
from ct_ops_agent.delivery.draft import Room
from ct_ops_agent.delivery.entries import (
    SAMPLE,
    URGENT_TYPES,
    Codec,
    Entry,
    Gap,
    entries_of_samples,
    entry_of_result,
)
from ct_ops_agent.delivery.figures import Figures
from ct_ops_agent.delivery.outbox import Outbox
from ct_ops_agent.delivery.position import Step, Theirs
from ct_ops_agent.delivery.summary import Tally
from ct_ops_agent.delivery.vault import Vault
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.work import Result

_log = logging.getLogger(__name__)

USUAL_BATCH = 128 * 1024
"""A heartbeat that is due while a batch is being sent waits for no more than this, but for a giant result."""

_LARGEST_BATCH = 1024 * 1024
_FRAME_OVERHEAD = 1024

_MOST_IN_A_FRAME = 256 * 1024
_LOOK_EVERY_S = 5.0
NO_PLACE = "the server takes no samples"


class Mode(StrEnum):
    """How results travel with the server that was spoken to last."""

    UNKNOWN = "not connected yet"
    NUMBERED = "numbered"
    AT_MOST_ONCE = "at most once: this server knows no numbered delivery"


@dataclass(frozen=True)
class DeliveryReport:
    """How delivery is, for people."""

    mode: Mode
    figures: Figures
    problem: str
    """One sentence about the disk; empty: none."""


@dataclass
class _Waiting:
    """What somebody puts and waits for."""

    entries: list[Entry]
    gaps: list[Gap]
    durable: bool
    done: asyncio.Future[None]


class Courier:
    """Brings results home. Fulfils `work.Results`, `samples.TakesSamples` and `conversation_parts.Delivers`."""

    def __init__(self, vault: Vault, codec: Codec, clock: Clock, random: Callable[[], float]) -> None:
        """Begin without a stream.

        Args:
            vault: holds the outbox.
            codec: makes bytes of items.
            clock: of this host.
            random: uniform in [0, 1), for the jitter of waits.
        """
        self._vault = vault
        self._codec = codec
        self._clock = clock
        self._backoff = Backoff(first=1.0, ceiling=30.0, random=random)
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._mode = Mode.UNKNOWN
        self._room = Room(USUAL_BATCH, USUAL_BATCH)
        self._theirs: Theirs | None = None
        self._answer: BatchAck | None = None
        self._samples_are_due = False
        self._not_before = 0.0
        self._carried: list[Entry] = []
        self._server = (b"", "")
        self._asked_about = b""
        self._figures = vault.do(Outbox.figures)
        self._looked_at = clock.monotonic()

    # ---- those who put -----------------------------------------------------------------------

    async def put(self, result: Result) -> None:
        """Keep a result until it is acknowledged; returns when it is durable."""
        entry = entry_of_result(result, self._codec, self._wall_ms())
        await self._keep([entry], [], durable=True)
        self._news.set()

    async def put_samples(self, samples: Sequence[TimedSample]) -> None:
        """Keep the samples of one run of one collector until they are acknowledged."""
        if not samples:
            return
        entries = entries_of_samples(samples, self._codec)
        if self._mode is Mode.AT_MOST_ONCE:
            await self._keep([], [_without_a_place(entry) for entry in entries], durable=False)
        else:
            await self._keep(entries, [], durable=False)

    # ---- the stream --------------------------------------------------------------------------

    @property
    def position(self) -> Position | None:
        """What the next stream's first frame says; its welcome will be about this outbox."""
        position = self._vault.position
        self._asked_about = position.outbox_id
        return position

    @property
    def report(self) -> DeliveryReport:
        """How delivery is."""
        return DeliveryReport(self._mode, self._figures, self._vault.problem)

    async def look(self) -> None:
        """Count what is in the outbox, for `report`."""
        self._figures = await self._vault.run(Outbox.figures)
        self._looked_at = self._clock.monotonic()

    def begin(self, welcome: Welcome | None, agent_id: str) -> None:
        """A stream was answered; ``None``: by a server that takes no batches."""
        self._answer, self._theirs = None, None
        self._not_before = 0.0
        self._samples_are_due = True
        if welcome is None:
            self._become(Mode.AT_MOST_ONCE)
            return
        self._become(Mode.NUMBERED)
        most_bytes = min(welcome.max_batch_bytes or _LARGEST_BATCH, _LARGEST_BATCH) - _FRAME_OVERHEAD
        self._room = Room(min(USUAL_BATCH, most_bytes), most_bytes)
        self._server = (welcome.store_id, agent_id)
        self._theirs = Theirs(self._asked_about, welcome.stored_seq, welcome.stored_digest, *self._server)

    async def next_batch(self) -> Batch | None:
        """Wait until there is something to send; ``None``: in a frame, which is wanted now."""
        await self._take_news_of_server()
        while True:
            self._news.clear()
            await self._look_now_and_then()
            if self._mode is Mode.AT_MOST_ONCE:
                if await self._carry():
                    return None
            elif batch := await self._find_batch():
                return batch
            await self._news.wait()

    def answered(self, ack: BatchAck) -> None:
        """Take the answer to the batch that was sent."""
        self._answer = ack
        match ack.verdict:
            case Verdict.STORED:
                self._backoff.reset()
                wait_s = ack.retry_after_s
            case _:
                wait_s = self._backoff.next_delay(at_least=ack.retry_after_s)
        self._not_before = self._clock.monotonic() + wait_s
        for refused in ack.refused:
            _log.warning("item %d of batch %d was refused: %s", refused.index, ack.seq, refused.reason)

    def heartbeat_answered(self) -> None:
        """Send what waits: the server has the newest vitals."""
        self._samples_are_due = True
        self._news.set()

    def take_carried(self) -> bytes:
        """Return the results for the next frame; they are not kept any longer."""
        if self._mode is not Mode.AT_MOST_ONCE:
            return b""
        carried, self._carried = self._carried, []
        self._news.set()
        return b"".join(entry.body for entry in carried)

    async def finish(self) -> None:
        """Wait until what was put is written."""
        if self._writing:
            await asyncio.wait({self._writing})

    def close(self) -> None:
        """Close the outbox; nothing may be put any more."""
        self._vault.close()

    # ---- sending -----------------------------------------------------------------------------

    async def _take_news_of_server(self) -> None:
        if theirs := self._theirs:
            await self._compare(theirs)
            self._theirs = None
        if answer := self._answer:
            if answer.verdict is Verdict.MISMATCH:
                reached = (answer.outbox_id, answer.stored_seq, answer.stored_digest)
                await self._compare(Theirs(*reached, *self._server))
            elif answer.verdict is Verdict.STORED:
                wall_ms = self._wall_ms()
                await self._vault.run(lambda outbox: outbox.stored(answer, wall_ms))
            self._answer = None
        if self._carried and self._mode is Mode.NUMBERED:
            carried, self._carried = self._carried, []
            await self._keep(carried, [], durable=True)

    async def _compare(self, theirs: Theirs) -> None:
        match await self._vault.run(lambda outbox: outbox.compare(theirs)):
            case Step.REWIND:
                _log.warning("the server went back: batches after %d are sent again", theirs.seq)
            case Step.START_OVER:
                _log.warning("the server knows another history: what is still here is sent again")
            case _:
                pass

    async def _find_batch(self) -> Batch | None:
        wait_s = self._not_before - self._clock.monotonic()
        if wait_s > 0:
            await self._clock.sleep(wait_s)
        room, wall_ms, with_samples = self._room, self._wall_ms(), self._samples_are_due
        batch = await self._vault.run(
            lambda outbox: outbox.next_batch(room, wall_ms, with_samples=with_samples)
        )
        if batch is None:
            self._samples_are_due = False
        return batch

    async def _carry(self) -> bool:
        """Take results out for the next frame; say whether one is wanted now."""
        if sum(len(entry.body) for entry in self._carried) >= _MOST_IN_A_FRAME:
            return False
        found = await self._vault.run(lambda outbox: outbox.take_results(_MOST_IN_A_FRAME))
        self._carried += found
        return any(entry.tally.type in URGENT_TYPES for entry in found)

    def _become(self, mode: Mode) -> None:
        if mode is not self._mode:
            self._mode = mode
            _log.info("delivery: %s", mode.value)

    async def _look_now_and_then(self) -> None:
        if self._clock.monotonic() - self._looked_at >= _LOOK_EVERY_S:
            await self.look()

    # ---- writing -----------------------------------------------------------------------------

    async def _keep(self, entries: list[Entry], gaps: list[Gap], *, durable: bool) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(entries, gaps, durable, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="outbox writes")
        await asyncio.shield(done)  # what was put is kept, also when nobody waits for it any more

    async def _write(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting, []
            entries = [entry for each in together for entry in each.entries]
            gaps = [gap for each in together for gap in each.gaps]
            durable = any(each.durable for each in together)
            try:
                await self._vault.run(lambda outbox: outbox.put(entries, gaps, durable=durable))  # noqa: B023 - runs before the next round
            except Exception as error:  # noqa: BLE001 - whoever puts must hear of it, and the others go on
                _settle(together, error)
            else:
                _settle(together, None)
            await self._look_now_and_then()

    def _wall_ms(self) -> int:
        return int(self._clock.wall() * 1000)


def _settle(together: list[_Waiting], error: Exception | None) -> None:
    for each in together:
        if each.done.cancelled():
            continue
        if error is None:
            each.done.set_result(None)
        else:
            each.done.set_exception(error)


def _without_a_place(entry: Entry) -> Gap:
    tally = entry.tally
    return Gap(Tally(SAMPLE, tally.count, tally.from_ms, tally.to_ms), NO_PLACE)

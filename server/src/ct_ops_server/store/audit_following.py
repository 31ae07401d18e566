"""Follows the chain into files of the data directory, after its commits: outside the database, and always whole.

One process of all that share a data directory does it: whoever finds the folder held looks again later, and
takes over when the holder dies. It goes on from what the files say, never from memory of its own, so an outage
of whatever length costs neither a gap nor a repetition. A full disk stops the files and nothing else: it
is loud in the log and the metrics, and the chain waits in the database.

Where the database and the files disagree, the database was rolled back: the files keep what they have, and go on in
a new file from the last entry that both know. That is loud too, for somebody has to know why.

How far they reach is signed every minute, and at once when it was more than hosts coming and going: a restore needs it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from ct_ops_server.audit.decisions import ROUTINE
from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.ports import AuditStore, Reach
from ct_ops_server.audit.reading import audit_files, hash_at
from ct_ops_server.audit.verification import breaks
from ct_ops_server.audit.watching import NobodyWatching, Watcher
from ct_ops_server.audit.writing import ChainFiles, FileLimits, Signer, only_writer
from ct_ops_server.fleet.ports import StoreError

_log = logging.getLogger("ct_ops_server.audit")
P = ParamSpec("P")
R = TypeVar("R")

_BATCH = 500
_SIGNED_EVERY_MS = 60_000
_ROUTINE = {action.value for action in ROUTINE}
_SAID_EVERY_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files are kept, and how."""

    directory: Path
    signer: Signer
    limits: FileLimits


class Follower:
    """Writes the chain of a database to the files of a directory. Use ``close`` at the end."""

    def __init__(
        self,
        source: AuditStore,
        place: Place,
        *,
        now_ms: Callable[[], int],
        watcher: Watcher | None = None,
        announce: Callable[[], Awaitable[None]] | None = None,
        pause_s: float = 1.0,
    ) -> None:
        """Prepare it; nothing is opened yet. ``announce`` sees to it that the chain names the key that signs."""
        self._source = source
        self._place = place
        self._now_ms = now_ms
        self._watcher = watcher or NobodyWatching()
        self._announce = announce
        self._pause_s = pause_s
        self._held = ExitStack()
        self._files: ChainFiles | None = None
        self._signed_ms = 0
        self._said_ms = 0
        self._damaged_seq = 0
        self._failure_said_ms = 0
        self._is_failing = False
        self._is_waiting = False
        self._has_news = False

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.make_pass()
            await asyncio.sleep(self._pause_s)

    async def close(self) -> None:
        """Write and sign what is left, and let go of the folder."""
        try:
            await self.make_pass(is_last=True)
        finally:
            self._let_go()

    async def make_pass(self, *, is_last: bool = False) -> None:
        """Bring the files up to the database, if this process is the one that writes them."""
        try:
            await self._leave_what_was_touched()
            if self._files is None and not await _to_its_end(self._open):
                self._leave_it_to_another()
                return
            await self._announce_once()
            await self._follow()
            await self._sign(at_once=is_last)
        except StoreError as error:
            self._waits(error)
        except OSError as error:
            self._fail(error)
        else:
            self._succeed()

    def _open(self) -> bool:
        """Hold the folder and open its files; False when another process writes them."""
        with ExitStack() as opening:
            if not opening.enter_context(only_writer(self._place.directory)):
                return False
            files = self._files = ChainFiles(self._place.directory, self._place.signer, self._place.limits)
            self._held = opening.pop_all()
        if files.torn_bytes:
            _log.warning(
                "the last %d bytes of the audit files in %s were torn: what they said is written again from the database",
                files.torn_bytes,
                self._place.directory,
            )
        return True

    async def _leave_what_was_touched(self) -> None:
        """Let go of a file that somebody else changed: what is written goes on from what is there now."""
        if self._files is None or not await _to_its_end(self._files.was_touched):
            return
        _log.error(
            "somebody removed, cut or wrote to the audit file in %s that this server writes. What is missing of it is written "
            "again from the database; `ct-ops-server audit verify` shows what else was changed",
            self._place.directory,
        )
        self._watcher.touched()
        self._signed_ms = 0  # the head may be gone with it: signed again at once
        self._let_go()

    def _leave_it_to_another(self) -> None:
        """Show nothing of an earlier failure: whoever writes the files now shows how it goes."""
        self._watcher.lag(0)
        self._watcher.failing(is_failing=False)
        self._watcher.waiting(is_waiting=False)
        self._is_waiting = False

    def _waits(self, error: StoreError | None) -> None:
        """Say once that the database does not answer, and once that it does again."""
        was_waiting, self._is_waiting = self._is_waiting, error is not None
        self._watcher.waiting(is_waiting=self._is_waiting)
        if error is not None and not was_waiting:
            _log.error(
                "the audit log cannot be read from the database (%s): nothing that is decided gets into the files in %s until "
                "it answers again; they go on from there by themselves",
                error,
                self._place.directory,
            )
        elif error is None and was_waiting:
            _log.warning("the audit log can be read from the database again, and its files go on")

    async def _announce_once(self) -> None:
        if self._announce is not None:
            await self._announce()
            self._announce = None

    def _let_go(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None
        self._held.close()

    async def _follow(self) -> None:
        assert self._files is not None
        reach = await self._source.reach()
        self._waits(None)
        await self._find_place(self._files, reach)
        assert self._files.reached is not None
        while entries := await self._source.entries_after(self._files.reached.seq, limit=_BATCH):
            if breaks(entries[:1], after=self._files.reached):
                reach = await self._source.reach()
                if not await self._is_known(self._files.reached, reach):
                    await self._branch(self._files, reach)
                    continue
                self._say_damaged(entries[0])
            await _to_its_end(self._files.append, entries, now_ms=self._now_ms())
            self._has_news = self._has_news or any(entry.action not in _ROUTINE for entry in entries)
            self._watcher.written(len(entries))
            self._watcher.lag(max(0, reach.head.seq - entries[-1].seq))
        self._watcher.lag(0)

    async def _find_place(self, files: ChainFiles, reach: Reach) -> None:
        """See to it that the files reach a place of the database's chain."""
        reached = files.reached
        if reached is None:
            await self._begin(files, reach.anchor)
        elif reached.seq < reach.anchor.seq:
            _log.error(
                "the audit files end at entry %d and the database begins behind %d: what lies between is in "
                "neither; the files of another node may have it",
                reached.seq,
                reach.anchor.seq,
            )
            await self._begin(files, reach.anchor)
        elif not await self._is_known(reached, reach):
            await self._branch(files, reach)

    async def _is_known(self, place: Link, reach: Reach) -> bool:
        """Tell whether the database's chain has this place."""
        return place in {reach.head, reach.anchor} or await self._source.link_at(place.seq) == place

    def _say_damaged(self, entry: Entry) -> None:
        """Tell once of an entry that was changed in the database, or stands behind a hole. It is written as it is."""
        if self._damaged_seq != entry.seq:
            self._damaged_seq = entry.seq
            _log.error(
                "somebody changed the audit log in the database: entry %d does not follow the one before it. It is written to "
                "the files as it is; `ct-ops-server audit verify` shows what is wrong",
                entry.seq,
            )

    async def _branch(self, files: ChainFiles, reach: Reach) -> None:
        """Go on in a new file from the last entry that the database and the files both know."""
        common = await self._last_common(files, reach)
        _log.error(
            "the database's audit log is not the one in %s: it was rolled back, or changed, behind entry %d. The files "
            "keep what they have and go on in a new one; `ct-ops-server audit verify` shows both. If a backup was put "
            "back by hand, use `ct-ops-server db restore`, which replays revocations and deletions",
            self._place.directory,
            common.seq,
        )
        self._watcher.branched()
        await self._begin(files, common)

    async def _last_common(self, files: ChainFiles, reach: Reach) -> Link:
        """Return the last link that both have: hashes are equal up to there, so a search halves what is left."""
        assert files.reached is not None
        paths = audit_files(self._place.directory)
        low, common = reach.anchor.seq, reach.anchor
        high = min(files.reached.seq, reach.head.seq)
        while low < high:
            middle = (low + high + 1) // 2
            link = await self._source.link_at(middle)
            if link is not None and link.hash == await asyncio.to_thread(hash_at, paths, middle):
                low, common = middle, link
            else:
                high = middle - 1
        return common

    async def _begin(self, files: ChainFiles, anchor: Link) -> None:
        await _to_its_end(files.begin, anchor, now_ms=self._now_ms())

    async def _sign(self, *, at_once: bool) -> None:
        assert self._files is not None
        now_ms = self._now_ms()
        # A clock that was set back must not put off signing for as long as it was set back.
        if not (at_once or self._has_news) and 0 <= now_ms - self._signed_ms < _SIGNED_EVERY_MS:
            return
        signed = await _to_its_end(self._files.sign, now_ms=now_ms)
        self._has_news = False
        if signed is None:
            return
        self._signed_ms = now_ms
        self._watcher.signed(now_ms)
        if at_once or not 0 <= now_ms - self._said_ms < _SAID_EVERY_MS:
            # In the journal, which is elsewhere: whoever rewrites the files cannot take this back.
            self._said_ms = now_ms
            _log.info(
                "the audit log reaches entry %d, SHA-256 %s",
                signed.head.link.seq,
                signed.head.link.hash.hex(),
            )

    def _succeed(self) -> None:
        self._watcher.failing(is_failing=False)
        if self._is_failing:
            self._is_failing = False
            _log.info("the audit log is written to %s again", self._place.directory)

    def _fail(self, error: OSError) -> None:
        self._watcher.failing(is_failing=True)
        self._let_go()  # opened again, and healed, at the next pass
        now_ms = self._now_ms()
        if not self._is_failing or not 0 <= now_ms - self._failure_said_ms < _SAID_EVERY_MS:
            self._is_failing, self._failure_said_ms = True, now_ms
            _log.error(
                "the audit log cannot be written to %s (%s): make room or put its permissions right. Decisions are kept "
                "in the database meanwhile, and will be written",
                self._place.directory,
                error.strerror or error,
            )


async def _to_its_end(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run it in a thread, and wait for it also when cancelled: nobody else may touch the files before it is done."""
    under_way = asyncio.create_task(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(under_way)
    except asyncio.CancelledError:
        await asyncio.wait([under_way])
        raise

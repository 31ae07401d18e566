"""Sides of an agent: who has spoken as it, and when that proves two of them alive. Pure.

A *side* is one process on one host, as far as that can be told from a stream's first frame. Our agents say
it themselves: a process id that is new with every start, and the id of their outbox, which a copy gives up
for one of its own when the two histories fork. Existing agents say neither: their interfaces tell them
apart, and without those nothing does.

A host that was restarted, moved, or rolled back to a snapshot has a new side, and never goes back to the
one it left. So a side that opens a stream after another one did has *come back*, and

* when **two sides came back** within the window, both were alive all the time: a clone (rule 19). One that
  came back alone may be a machine whose memory was rolled back.
* when a **machine came back that another one had replaced**, with an outbox that does not know what the
  other one delivered, there are two copies, though perhaps only one of them runs at a time.

One reconnect is neither, nor is a fork of outbox histories by itself: a host that was restored forks from
its own past (docs/adr, "What proves a clone").

A log keeps a few sides, the first ones of a burst and the latest: of a template that was cloned 400 times
the first ones come back, and what is kept does not grow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

MOST_SIDES = 16
"""Kept of one agent; of the others there is a count."""

_MOST_SPLIT_KEYS = 8
_PINNED = MOST_SIDES // 2
_SHORTEST_WINDOW_MS = 300_000
_INTERVALS_OF_A_WINDOW = 4
_WORTH_STORING_MS = 60_000


class Side(Struct, frozen=True):
    """What a stream's first frame, and its connection, say about who speaks. All but ``address`` is claimed."""

    address: str
    process_id: str = ""
    outbox_id: str = ""
    boot_id: str = ""
    machine_id: str = ""
    hostname: str = ""
    macs: tuple[str, ...] = ()
    booted_at_s: int = 0
    """By the server's clock: when the frame came, less the uptime that it says; 0: not known."""
    version: str = ""
    acked_seq: int = 0
    """How far its outbox knows itself acknowledged."""


class Sighting(Struct, frozen=True):
    """A side, and how often it was seen. Times in milliseconds, by the database's clock."""

    side: Side
    first_ms: int
    last_ms: int
    openings: int = 1
    came_back_ms: int = 0
    """When it last opened a stream after another side had; 0: never."""


class SideLog(Struct, frozen=True):
    """What is kept of one agent's sides."""

    seen: tuple[Sighting, ...] = ()
    """In the order in which they were first seen; the one that spoke last is ``latest``."""
    latest: int = -1
    others: int = 0
    """Sides that were seen and are not kept."""
    since_ms: int = 0
    """When it was quarantined; 0: it is not."""
    why: str = ""
    kept: Side | None = None
    """After a split, until the key was followed by another: the only side that is served."""
    rivals: tuple[Side, ...] = ()
    """The sides that were split off then."""
    split_keys: tuple[str, ...] = ()
    """Keys that copies of this agent hold since."""


class Proof(StrEnum):
    """What made a log conclusive."""

    TWO_CAME_BACK = "two_processes"
    MACHINE_CAME_BACK = "two_histories"
    SPLIT_AFTER_BACKUP = "split_after_backup"
    """Not by what was seen: the audit log tells a restored server of it."""


SENTENCES = {
    Proof.TWO_CAME_BACK: "two processes took this agent's stream from each other and both came back: "
    "its data directory or its machine was copied",
    Proof.MACHINE_CAME_BACK: "a machine came back with an older history of what was delivered than another "
    "machine that had spoken as this agent since: its data directory was copied",
    Proof.SPLIT_AFTER_BACKUP: "it was split after the backup that this server was restored from, and no new key "
    "followed: its copies still hold the key that it has",
}


@dataclass(frozen=True, slots=True)
class Sight:
    """One opening of a stream, as it is judged."""

    side: Side
    now_ms: int
    interval_ms: int | None = None
    took_over: bool = False
    """The agent's last stream had not ended."""
    stored_seq: int = 0
    """How far the server has stored the outbox of this side."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The log afterwards, and what it proves."""

    log: SideLog
    proof: Proof | None = None
    is_news: bool = True
    """False: the log says nothing that it did not say before, and need not be stored."""


def is_same_side(one: Side, other: Side) -> bool:
    """Tell whether two streams were opened by the same process of the same host."""
    if one.process_id or other.process_id:
        return (one.process_id, one.outbox_id) == (other.process_id, other.outbox_id)
    # Nothing less will do: one host has several uplinks, and the clocks of two nodes see it boot at two moments.
    return not (one.macs and other.macs) or bool(set(one.macs) & set(other.macs))


def is_same_machine(one: Side, other: Side) -> bool | None:
    """Tell whether two sides are one machine; None: nothing tells."""
    if one.machine_id and other.machine_id and one.machine_id != other.machine_id:
        return False
    if one.macs and other.macs:
        return bool(set(one.macs) & set(other.macs))
    has_sign = (one.boot_id and one.boot_id == other.boot_id) or one.machine_id == other.machine_id != ""
    return True if has_sign else None


def needs_history(log: SideLog, side: Side) -> bool:
    """Tell whether the judgement depends on how far the outbox of this side is stored."""
    return bool(side.outbox_id) and _replaced_machine_is_back(log, side)


def judge(log: SideLog, sight: Sight) -> Judged:
    """Return the log with one more opening in it, and whether that proves a clone.

    In quarantine there is nothing left to prove: further sides are written down, and how often each comes.
    """
    place = _find(log, sight.side)
    if place is not None and (place == log.latest or log.since_ms):
        return _again(log, place, sight)
    if log.since_ms:
        return Judged(_with_new(log, sight))
    proof = None
    if place is None:
        if _replaced_machine_is_back(log, sight.side) and sight.stored_seq > sight.side.acked_seq + 1:
            proof = Proof.MACHINE_CAME_BACK
        log = _with_new(log, sight, came_back=proof is not None)
    else:
        log = _came_back(log, place, sight)
    if len(_back_within(log, sight)) > 1:
        proof = Proof.TWO_CAME_BACK
    return Judged(log, proof)


def quarantined(log: SideLog, proof: Proof, now_ms: int) -> SideLog:
    """Return the log of an agent that is quarantined now."""
    return replace(log, since_ms=now_ms, why=proof.value)


def split(log: SideLog, place: int) -> SideLog:
    """Return the log of an agent of which one side goes on alone."""
    kept = log.seen[place]
    rivals = rivals_of(log, place)
    return SideLog(seen=(kept,), latest=0, kept=kept.side, rivals=rivals, split_keys=log.split_keys)


def rivals_of(log: SideLog, place: int) -> tuple[Side, ...]:
    """Return the sides that are others than this one: alive, or on other machines.

    Neither earlier processes of the same host are, nor later ones, nor is one that has started its outbox over a
    rival of itself.
    """
    kept = log.seen[place]
    strangers = [each for each in _but(log.seen, place) if not is_one_host(kept, each)]
    others = [
        each.side
        for each in strangers or _but(log.seen, place)
        if is_alive(log, each) or is_same_machine(kept.side, each.side) is False
    ]
    return tuple(side for side in others if not _is_same_process(kept.side, side)) or tuple(others)


def key_followed(log: SideLog, old_key_id: str) -> SideLog:
    """Return the log of an agent whose key was followed by another: after a split its copies hold the old one."""
    if log.kept is None:
        return log
    return replace(log, kept=None, rivals=(), split_keys=(*log.split_keys, old_key_id)[-_MOST_SPLIT_KEYS:])


def key_of_one(log: SideLog, old_key_id: str) -> SideLog:
    """Return the log of an agent that came out of quarantine with another key: its copies hold the old one."""
    return SideLog(split_keys=(*log.split_keys, old_key_id)[-_MOST_SPLIT_KEYS:])


def is_served(log: SideLog, side: Side | None) -> bool:
    """Tell whether a split lets this side speak: after one, whatever cannot be told from the copy is not served.

    The process that was kept may have been restarted, or its host: then its machine tells, and where nothing
    does, its address.
    """
    kept = log.kept
    if kept is None:
        return True
    if side is None:
        return False
    if any(is_same_side(rival, side) for rival in log.rivals):
        return False
    is_alone = not any(_is_same_process(kept, rival) for rival in log.rivals)
    if is_same_side(kept, side) or (is_alone and _is_same_process(kept, side)):
        return True
    return _is_kept(kept, log.rivals, side)


def _is_same_process(one: Side, other: Side) -> bool:
    return one.process_id == other.process_id != ""


def _is_kept(kept: Side, rivals: tuple[Side, ...], side: Side) -> bool:
    """Tell by the first sign that tells the kept side from all its rivals whether another process is of its host."""
    boots, machine = {rival.boot_id for rival in rivals}, is_same_machine(kept, side)
    is_same_boot = kept.boot_id == side.boot_id != ""
    if machine is False or (side.boot_id in boots and side.boot_id and not is_same_boot):
        return False
    if is_same_boot and kept.boot_id not in boots:  # one that rivals have, or claim, tells nothing
        return True
    if all(is_same_machine(kept, rival) is False for rival in rivals):
        return machine is True
    return kept.address == side.address and kept.address not in {rival.address for rival in rivals}


def is_one_host(one: Sighting, other: Sighting) -> bool:
    """Tell whether one of two sides is what became of the other: it began when that was over, on the same host.

    Two that were seen by turns are two processes, wherever they say that they run.
    """
    earlier, later = sorted((one, other), key=lambda each: each.first_ms)
    if later.first_ms < earlier.last_ms or is_same_machine(one.side, other.side) is False:
        return False
    return one.side.boot_id == other.side.boot_id != "" or one.side.address == other.side.address


def likely_original(log: SideLog) -> int | None:
    """Return which side is probably the original now: of the host that was there first, its latest process."""
    alive = [place for place, each in enumerate(log.seen) if is_alive(log, each)] or list(
        range(len(log.seen))
    )
    first = min(alive, key=lambda place: _seniority(log, log.seen[place]), default=None)
    if first is None:
        return None
    of_its_host = [each for each in alive if each == first or is_one_host(log.seen[first], log.seen[each])]
    return max(of_its_host, key=lambda place: log.seen[place].last_ms)


def is_alive(log: SideLog, sighting: Sighting) -> bool:
    """Tell whether a side of a clone has shown itself after another one had; else it may be a process of before."""
    return bool(sighting.came_back_ms) or sighting.last_ms >= log.since_ms


def _seniority(log: SideLog, sighting: Sighting) -> tuple[int, int]:
    of_its_host = [each for each in log.seen if is_same_machine(each.side, sighting.side)]
    return min(each.first_ms for each in (*of_its_host, sighting)), sighting.first_ms


def _find(log: SideLog, side: Side) -> int | None:
    places = (place for place, each in enumerate(log.seen) if is_same_side(each.side, side))
    return next(places, None)


def _again(log: SideLog, place: int, sight: Sight) -> Judged:
    """The same process reconnects: to be written down now and then, or when it has moved."""
    before = log.seen[place]
    is_news = before.side.address != sight.side.address or (
        abs(sight.now_ms - before.last_ms) >= _WORTH_STORING_MS
    )
    return Judged(_with(log, place, _seen_again(before, sight)), is_news=is_news)


def _came_back(log: SideLog, place: int, sight: Sight) -> SideLog:
    again = _seen_again(log.seen[place], sight)
    if sight.side.process_id or sight.took_over:
        # A process id is never used twice. What else tells sides apart may alternate in peace, like two
        # nodes with one disk: only who takes a live stream away is counted.
        again = replace(again, came_back_ms=sight.now_ms)
    return replace(_with(log, place, again), latest=place)


def _seen_again(before: Sighting, sight: Sight) -> Sighting:
    return replace(before, side=sight.side, last_ms=sight.now_ms, openings=before.openings + 1)


def _with(log: SideLog, place: int, sighting: Sighting) -> SideLog:
    return replace(log, seen=(*log.seen[:place], sighting, *log.seen[place + 1 :]))


def _with_new(log: SideLog, sight: Sight, *, came_back: bool = False) -> SideLog:
    seen, others = log.seen, log.others
    if len(seen) >= MOST_SIDES:
        seen, others = _without(seen, _to_forget(log, sight)), others + 1
    new = Sighting(sight.side, sight.now_ms, sight.now_ms, came_back_ms=sight.now_ms if came_back else 0)
    return replace(log, seen=(*seen, new), others=others, latest=len(seen))


def _to_forget(log: SideLog, sight: Sight) -> int:
    """Return which side makes room: a stale one whose machine is still there otherwise, if possible."""
    oldest_ms = sight.now_ms - window_ms(sight.interval_ms)
    stale = [place for place, each in enumerate(log.seen) if each.last_ms < oldest_ms and place != log.latest]
    doubled = [place for place in stale if _has_twin_later(log.seen, place)]
    return next(iter(doubled or stale), _PINNED)


def _has_twin_later(seen: tuple[Sighting, ...], place: int) -> bool:
    return any(is_same_machine(seen[place].side, each.side) for each in seen[place + 1 :])


def _without(seen: tuple[Sighting, ...], place: int) -> tuple[Sighting, ...]:
    return (*seen[:place], *seen[place + 1 :])


def _replaced_machine_is_back(log: SideLog, side: Side) -> bool:
    if log.latest < 0 or is_same_machine(log.seen[log.latest].side, side) is not False:
        return False
    return any(is_same_machine(each.side, side) for each in _but(log.seen, log.latest))


def _but(seen: tuple[Sighting, ...], left_out: int) -> Iterable[Sighting]:
    return (each for place, each in enumerate(seen) if place != left_out)


def _back_within(log: SideLog, sight: Sight) -> list[Sighting]:
    """Return who came back lately; what is written with a moment far ahead is of a clock that was wrong."""
    window = window_ms(sight.interval_ms)
    return [each for each in log.seen if each.came_back_ms and abs(sight.now_ms - each.came_back_ms) < window]


def window_ms(interval_ms: int | None) -> int:
    """Return within which time both sides must have come back: longer for agents that seldom speak."""
    return max(_SHORTEST_WINDOW_MS, _INTERVALS_OF_A_WINDOW * (interval_ms or 0))

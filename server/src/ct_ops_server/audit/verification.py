"""Whether entries make a chain, and precisely where they do not.

Entries come in the order in which they were written down. Each one has to be numbered one above the one
before it, and to have the hash that follows from that one's and its own contents. What does not fit is a
``Break``, which says what happened; the examination goes on behind it from what was found, so that one
changed entry does not make all later ones look changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ct_ops_server.audit.entries import START, Entry, Link, hash_after


class Fault(StrEnum):
    """What can be wrong with a chain. ``SENTENCES`` says it to a reader."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    FORKED = "forked"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"
    FORGED_HEAD = "forged head"
    MOVED_HEAD = "moved head"
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"


SENTENCES = {
    Fault.CHANGED: "was changed: its hash is not that of its contents behind the entry before it",
    Fault.MISSING: "is missing",
    Fault.REORDERED: "is out of order: a later entry stands before it, or it is there twice",
    Fault.FORKED: "is there in two versions: the database was rolled back to the entry before it",
    Fault.TRUNCATED: "was cut off at the end: a signed head says that the chain reached so far",
    Fault.REWRITTEN: "was rewritten, or one before it: a signed head says that it had another hash",
    Fault.FORGED_HEAD: "has a head that the key did not sign",
    Fault.MOVED_HEAD: "has a signed head that stands elsewhere: it is not known whether it is the entry that was signed",
    Fault.FOREIGN: "belongs to the chain of another installation",
    Fault.UNREADABLE: "is followed by a line that was not written here",
}


@dataclass(frozen=True, slots=True)
class Break:
    """One place where a chain is not whole."""

    fault: Fault
    seq: int
    last: int = 0
    """With what is missing or cut off: the last one, when it is more than one."""
    where: str = ""
    """File and line, when it is known."""

    def __str__(self) -> str:
        which = f"entry {self.seq}" if self.last <= self.seq else f"entry {self.seq} to {self.last}"
        place = f"{self.where}: " if self.where else ""
        return f"{place}{which} {SENTENCES[self.fault]}"


@dataclass(slots=True)
class Examination:
    """An examination under way: give it entries in the order in which they stand."""

    reached: Link = START
    """What was last found to be there."""

    def examine(self, entry: Entry, *, where: str = "") -> Break | None:
        """Return what is wrong with an entry at this place."""
        expected = self.reached.seq + 1
        if entry.seq < expected:
            return Break(Fault.REORDERED, entry.seq, where=where)
        before, self.reached = self.reached, entry.link
        if entry.seq > expected:
            return Break(Fault.MISSING, expected, entry.seq - 1, where=where)
        if hash_after(before.hash, entry) != entry.hash:
            return Break(Fault.CHANGED, entry.seq, where=where)
        return None


def breaks(entries: Iterable[Entry], *, after: Link = START) -> list[Break]:
    """Return everything that is wrong with entries that ought to follow ``after``."""
    examination = Examination(after)
    return [found for entry in entries if (found := examination.examine(entry)) is not None]

"""Whether files of the audit log are whole: their chain, and the signed heads that say how far it reached.

Takes the lines in the order in which they were written, those of exported files too, and needs neither a
server nor a database. What a database says, or a head that was kept elsewhere, is given as ``kept``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_server.audit.entries import START, Entry, Link
from ct_ops_server.audit.heads import SignedHead, is_genuine
from ct_ops_server.audit.lines import Anchor
from ct_ops_server.audit.reading import Found
from ct_ops_server.audit.verification import Break, Examination, Fault


@dataclass(slots=True)
class Report:
    """What was found."""

    breaks: list[Break] = field(default_factory=list)
    entries: int = 0
    heads: int = 0
    """Signed ones that fit."""
    first: Link | None = None
    """What the oldest entry follows."""
    last: Link = START
    last_at_ms: int | None = None
    """When the last entry was recorded."""
    signed_through: int = 0
    """The entry that the furthest genuine head names."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.breaks


def examine(
    lines: Iterable[Found], *, key: Ed25519PublicKey | None, kept: Sequence[SignedHead] = ()
) -> Report:
    """Return what is wrong with files, and how far they reach.

    Args:
        lines: of all files, oldest first.
        key: verifies signed heads; None: they are taken at their word.
        kept: heads that were kept elsewhere.
    """
    examiner = _Examiner(key, kept)
    for found in lines:
        examiner.take(found)
    return examiner.finish()


class _Examiner:
    def __init__(self, key: Ed25519PublicKey | None, kept: Sequence[SignedHead]) -> None:
        self._key = key
        self._report = Report()
        self._chain = Examination()
        self._installation: str | None = None
        self._kept: dict[int, list[SignedHead]] = {}
        for signed in kept:
            if self._trusts(signed, ""):
                self._kept.setdefault(signed.head.link.seq, []).append(signed)

    def take(self, found: Found) -> None:
        match found.record:
            case None:
                self._add(Break(Fault.UNREADABLE, self._chain.reached.seq, where=found.where))
            case Anchor() as anchor:
                self._anchor(anchor, found.where)
            case SignedHead() as signed:
                self._head(signed, found.where)
            case entry:
                self._entry(entry, found.where)

    def finish(self) -> Report:
        report, reached = self._report, self._chain.reached
        report.last = reached
        missed = max(self._kept, default=0)
        if missed > reached.seq:
            self._add(Break(Fault.TRUNCATED, reached.seq + 1, missed))
        return report

    def _add(self, broken: Break | None) -> None:
        if broken is not None:
            self._report.breaks.append(broken)

    def _anchor(self, anchor: Anchor, where: str) -> None:
        if self._installation not in {None, anchor.installation}:
            self._add(Break(Fault.FOREIGN, anchor.link.seq + 1, where=where))
        self._installation = anchor.installation
        reached, self._chain.reached = self._chain.reached, anchor.link
        if self._report.first is None:
            self._report.first = anchor.link
            self._compare(anchor.link, where)
        elif anchor.link.seq > reached.seq:
            self._add(Break(Fault.MISSING, reached.seq + 1, anchor.link.seq, where=where))
        elif anchor.link != reached:
            self._add(Break(Fault.FORKED, anchor.link.seq + 1, where=where))

    def _entry(self, entry: Entry, where: str) -> None:
        if self._report.first is None:  # not even an anchor: the beginning is gone
            self._report.first = START
        self._report.entries += 1
        self._report.last_at_ms = entry.at_ms
        self._add(self._chain.examine(entry, where=where))
        self._compare(entry.link, where)

    def _head(self, signed: SignedHead, where: str) -> None:
        if not self._trusts(signed, where):
            return
        link, reached = signed.head.link, self._chain.reached
        self._report.heads += 1
        if link.seq > reached.seq:
            self._add(Break(Fault.MISSING, reached.seq + 1, link.seq, where=where))
            self._chain.reached = link
        elif link.seq == reached.seq and link.hash != reached.hash:
            self._add(Break(Fault.REWRITTEN, link.seq, where=where))

    def _trusts(self, signed: SignedHead, where: str) -> bool:
        """Tell whether to take a head's word for how far the chain reached: not when the key did not sign it."""
        if self._key is not None and not is_genuine(signed, self._key):
            self._add(Break(Fault.FORGED_HEAD, signed.head.link.seq, where=where))
            return False
        self._report.signed_through = max(self._report.signed_through, signed.head.link.seq)
        return True

    def _compare(self, link: Link, where: str) -> None:
        """Compare a place of the chain with the heads that were kept of it."""
        for signed in self._kept.pop(link.seq, ()):
            self._report.heads += 1
            if signed.head.link.hash != link.hash:
                self._add(Break(Fault.REWRITTEN, link.seq, where=where))

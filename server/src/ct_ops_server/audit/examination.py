"""Whether files of the audit log are whole: their chain, and the signed heads that say how far it reached.

Takes the lines in the order in which they were written, those of exported files too, and needs neither a
server nor a database. What a database says, or a head that was kept elsewhere, is given as ``kept``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_server.audit.decisions import Action
from ct_ops_server.audit.entries import START, Entry, Link
from ct_ops_server.audit.heads import SignedHead, is_genuine
from ct_ops_server.audit.lines import Anchor
from ct_ops_server.audit.reading import Found
from ct_ops_server.audit.verification import Break, Examination, Fault


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key began to sign, and none of those that had signed before signed behind its announcement."""

    seq: int
    """The entry that announces it."""
    key: str
    where: str


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
    """The entry that the furthest genuine head that fits names."""
    key_changes: list[KeyChange] = field(default_factory=list)
    """Those that no earlier key vouches for: an honest one after a loss of the key, or somebody else's."""
    torn: str = ""
    """File and line of a last line that has no end: a killed writer's, or the file was cut."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.breaks


def examine(
    lines: Iterable[Found], *, keys: Sequence[Ed25519PublicKey], kept: Sequence[SignedHead] = ()
) -> Report:
    """Return what is wrong with files, and how far they reach.

    Args:
        lines: of all files, oldest first.
        keys: one of them verifies a signed head; without any, heads are taken at their word.
        kept: heads that were kept elsewhere.
    """
    examiner = _Examiner(keys, kept)
    for found in lines:
        examiner.take(found)
    return examiner.finish()


class _Examiner:
    def __init__(self, keys: Sequence[Ed25519PublicKey], kept: Sequence[SignedHead]) -> None:
        self._keys = keys
        self._report = Report()
        self._chain = Examination()
        self._installation: str | None = None
        self._misfits: dict[Link, Break] = {}
        self._found: set[Link] = set()
        self._was_unreadable = False
        self._signers: set[str] = set()
        self._changes: dict[str, tuple[KeyChange, frozenset[str]]] = {}
        self._kept: dict[int, list[SignedHead]] = {}
        for signed in kept:
            if self._trusts(signed, ""):
                self._kept.setdefault(signed.head.link.seq, []).append(signed)

    def take(self, found: Found) -> None:
        if self._report.torn:  # it was not the last line of all
            self._unreadable(self._report.torn)
        self._report.torn = found.where if found.is_torn else ""
        if found.record is not None:
            self._was_unreadable = False
        elif not found.is_torn:
            self._unreadable(found.where)
        match found.record:
            case None:
                return
            case Anchor() as anchor:
                self._anchor(anchor, found.where)
            case SignedHead() as signed:
                self._head(signed, found.where)
            case entry:
                self._entry(entry, found.where)

    def finish(self) -> Report:
        report, reached = self._report, self._chain.reached
        report.last = reached
        report.key_changes += [change for change, _ in self._changes.values()]
        report.breaks += self._misfits.values()
        missed = max(self._kept, default=0)
        if missed > reached.seq:
            self._add(Break(Fault.TRUNCATED, reached.seq + 1, missed))
        return report

    def _unreadable(self, where: str) -> None:
        """Name the first of several lines: a file of nothing else has millions."""
        if not self._was_unreadable:
            self._add(Break(Fault.UNREADABLE, self._chain.reached.seq, where=where))
        self._was_unreadable = True

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
        if entry.action == Action.AUDIT_KEY_USED.value:
            self._announced(entry, where)

    def _announced(self, entry: Entry, where: str) -> None:
        """Wait for a head of a key from before: it vouches for the new one, and so do other nodes' keys."""
        if self._signers and entry.subject not in self._signers:
            change = KeyChange(entry.seq, entry.subject, where)
            self._changes.setdefault(entry.subject, (change, frozenset(self._signers)))

    def _head(self, signed: SignedHead, where: str) -> None:
        if not self._trusts(signed, where):
            return
        link, reached = signed.head.link, self._chain.reached
        if link == reached:
            self._fits(link)
            self._signs(signed.head.key)
        elif link.seq > reached.seq:
            self._add(Break(Fault.MISSING, reached.seq + 1, link.seq, where=where))
            self._chain.reached = link
        elif link.seq == reached.seq:
            self._add(Break(Fault.REWRITTEN, link.seq, where=where))
        else:  # it stands behind the entry that it names, always: here it would vouch for what it was not signed for
            self._add(Break(Fault.MOVED_HEAD, link.seq, where=where))

    def _signs(self, key: str) -> None:
        vouched = [new for new, (_, before) in self._changes.items() if key in before]
        for new in vouched:
            del self._changes[new]
        self._signers.add(key)

    def _fits(self, link: Link) -> None:
        self._report.heads += 1
        self._report.signed_through = max(self._report.signed_through, link.seq)

    def _trusts(self, signed: SignedHead, where: str) -> bool:
        """Tell whether to take a head's word for how far the chain reached: not when no key signed it."""
        if self._keys and not any(is_genuine(signed, key) for key in self._keys):
            self._add(Break(Fault.FORGED_HEAD, signed.head.link.seq, where=where))
            return False
        return True

    def _compare(self, link: Link, where: str) -> None:
        """Compare a place of the chain with the heads that were kept of it: one that fits one of two branches fits."""
        for signed in self._kept.get(link.seq, ()):
            named = signed.head.link
            if named == link:
                self._misfits.pop(named, None)
                self._found.add(named)
                self._fits(link)
            elif named not in self._found:
                self._misfits.setdefault(named, Break(Fault.REWRITTEN, link.seq, where=where))

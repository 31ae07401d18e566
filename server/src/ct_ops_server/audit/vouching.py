"""How far signed heads vouch for what files tell behind a place of the chain (rule 25).

Whoever can write to a folder can write entries that follow each other, and cannot sign. So of all that goes on from a place
the branch is taken whose genuine head is furthest; behind that head the longest one, for a crash leaves entries that were
written and not signed yet. A key is known because the caller knows it (a backup names its server's), or because an entry that is
vouched for announces it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_server.audit.entries import Entry, Link, hash_after
from ct_ops_server.audit.heads import SignedHead, is_genuine, key_name
from ct_ops_server.audit.keys import announced, unvouched_ranges
from ct_ops_server.audit.reading import audit_files, read_all
from ct_ops_server.audit.replay import head_beside


@dataclass(frozen=True, slots=True)
class Vouched:
    """What goes on from a place, and how much of it is vouched for."""

    through: int
    """The last entry that a genuine head reaches."""
    chain: Sequence[Entry] = ()
    """What follows the place without a break, also behind ``through``."""
    doubts: Sequence[range] = ()
    """Numbers of entries that an earlier restore put back and nobody vouched for."""
    strangers: frozenset[str] = frozenset()
    """Names of keys that nobody knows, and that are said to have signed heads of this chain."""
    _own: frozenset[bytes] = field(default=frozenset(), repr=False)

    def has(self, entry: Entry) -> bool:
        """Tell whether an entry is one of the chain."""
        return entry.hash in self._own

    def vouches_for(self, entry: Entry) -> bool:
        """Tell whether somebody who could sign had this entry."""
        return self.has(entry) and entry.seq <= self.through and not self.was_doubted(entry)

    def was_doubted(self, entry: Entry) -> bool:
        """Tell whether an earlier restore found nobody who vouched for it."""
        return any(entry.seq in doubt for doubt in self.doubts)


def vouched_chain(
    directory: Path, after: Link, *, keys: Iterable[Ed25519PublicKey], installation: str | None = None
) -> Vouched:
    """Return what the files of a directory tell behind ``after``, as far as it is one chain.

    Args:
        directory: holds audit files, and maybe the head beside them.
        after: the last entry that is known for certain.
        keys: those that are known to sign.
        installation: the id that a head has to name; None: any.

    Raises:
        OSError: a file cannot be read.
    """
    tree = _Tree(after)
    heads = list(head_beside(directory))
    for found in read_all(audit_files(directory)):
        if isinstance(found.record, Entry):
            tree.grow(found.record)
        elif isinstance(found.record, SignedHead):
            heads.append(found.record)
    ours = [signed for signed in heads if installation in {None, signed.head.installation}]
    behind = sorted((each for each in ours if tree.has(each.head.link)), key=lambda each: each.head.link.seq)
    known = {key_name(key): key for key in keys}
    while True:
        signed = _furthest(behind, known)
        told = announced(tree.way_to(signed))
        if told.keys() <= known.keys():
            break
        known |= told
    reached = after if signed is None else signed
    chain = tree.way_to(tree.end_behind(reached))
    return Vouched(
        reached.seq,
        chain,
        unvouched_ranges(each for each in chain if each.seq <= reached.seq),
        frozenset(each.head.key for each in behind if each.head.link != after) - known.keys(),
        frozenset(each.hash for each in chain),
    )


def _furthest(heads: Sequence[SignedHead], known: dict[str, Ed25519PublicKey]) -> Link | None:
    """Return the furthest link that a known key signed; only as many signatures are verified as it takes."""
    for signed in reversed(heads):
        key = known.get(signed.head.key)
        if key is not None and is_genuine(signed, key):
            return signed.head.link
    return None


class _Tree:
    """Everything that goes on from one place: a chain, and branches of it where a database was rolled back."""

    def __init__(self, root: Link) -> None:
        self._root = root
        self._hashes: defaultdict[int, list[bytes]] = defaultdict(list, {root.seq: [root.hash]})
        self._steps: dict[bytes, tuple[bytes, Entry]] = {}

    def grow(self, entry: Entry) -> None:
        """Take an entry, if it follows one that is there."""
        if entry.seq <= self._root.seq or entry.hash in self._steps:
            return
        before = next((h for h in self._hashes[entry.seq - 1] if hash_after(h, entry) == entry.hash), None)
        if before is not None:
            self._steps[entry.hash] = (before, entry)
            self._hashes[entry.seq].append(entry.hash)

    def has(self, link: Link) -> bool:
        return link.hash in self._hashes.get(link.seq, ())

    def end_behind(self, link: Link) -> Link:
        """Return the end of the longest branch that goes on from a link; of two equal ones the later."""
        behind, end = {link.hash}, link
        for own, (before, entry) in self._steps.items():  # in the order in which they grew
            if before in behind:
                behind.add(own)
                end = entry.link if entry.seq >= end.seq else end
        return end

    def way_to(self, link: Link | None) -> Sequence[Entry]:
        """Return the entries from the root to a link."""
        found: list[Entry] = []
        tip = self._root.hash if link is None else link.hash
        while tip in self._steps:
            tip, entry = self._steps[tip]
            found.append(entry)
        return found[::-1]

"""What the files know and a database that was restored does not: for ``db restore`` (rule 25).

* ``continuation``  the entries that follow the restored database's head, to be put back into its chain
* ``entries_after`` every entry behind a number, of every branch
* ``furthest_head`` how far the files once reached, as their own heads say

Nothing is verified here but that a continuation is one chain; ``verify`` judges files. What an entry means to
a restored database is ``backup.since``'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from ct_ops_server.audit.entries import Entry, Link, hash_after
from ct_ops_server.audit.heads import SignedHead
from ct_ops_server.audit.reading import HEAD_FILE, audit_files, heads_in, read_all, read_entries


def entries_after(directory: Path, seq: int) -> Iterator[Entry]:
    """Yield the entries behind number ``seq``, of every branch, in the order in which they were written.

    Raises:
        OSError: a file cannot be read.
    """
    return (entry for entry in read_entries(audit_files(directory)) if entry.seq > seq)


def furthest_head(directory: Path) -> int:
    """Return the highest number that a head in the files, or the one beside them, says they reach; 0 without one.

    Raises:
        OSError: a file cannot be read.
    """
    beside = directory / HEAD_FILE
    latest = heads_in(beside) if beside.is_file() else ()
    records = (found.record for found in read_all(audit_files(directory)))
    heads = chain(latest, (record for record in records if isinstance(record, SignedHead)))
    return max((signed.head.link.seq for signed in heads), default=0)


def continuation(directory: Path, after: Link) -> Sequence[Entry]:
    """Return the entries that follow ``after`` without a break: the chain that the database has lost.

    Where the files branch, the one that goes on longest from there is taken, of two equal ones the later.

    Raises:
        OSError: a file cannot be read.
    """
    hashes: defaultdict[int, list[bytes]] = defaultdict(list, {after.seq: [after.hash]})
    steps: dict[bytes, tuple[bytes, Entry]] = {}
    tip = after
    for entry in entries_after(directory, after.seq):
        before = next((each for each in hashes[entry.seq - 1] if hash_after(each, entry) == entry.hash), None)
        if before is not None and entry.hash not in steps:
            steps[entry.hash] = (before, entry)
            hashes[entry.seq].append(entry.hash)
            tip = entry.link if entry.seq >= tip.seq else tip
    return _way_back(steps, tip.hash)


def _way_back(steps: Mapping[bytes, tuple[bytes, Entry]], tip: bytes) -> Sequence[Entry]:
    found: list[Entry] = []
    while tip in steps:
        tip, entry = steps[tip]
        found.append(entry)
    return found[::-1]

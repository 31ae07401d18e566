"""What the files know and a database that was restored does not: for ``db restore`` (rule 25).

* ``entries_after`` every entry behind a number, of every branch
* ``furthest_head`` how far the files once reached, as their own heads say

Nothing is verified here: ``verify`` judges files, ``vouching`` says how far they are signed. What an entry means to a restored
database is ``backup.since``'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from ct_ops_server.audit.entries import Entry
from ct_ops_server.audit.heads import SignedHead
from ct_ops_server.audit.lines import Anchor
from ct_ops_server.audit.reading import HEAD_FILE, audit_files, heads_in, read_all, read_lines


def entries_after(directory: Path, seq: int, *, installation: str | None = None) -> Iterator[Entry]:
    """Yield the entries behind number ``seq``, of every branch, in the order in which they were written.

    With an ``installation``, without those of files whose anchor names another one.

    Raises:
        OSError: a file cannot be read.
    """
    for path in audit_files(directory):
        whose = installation
        for found in read_lines(path):
            if isinstance(found.record, Anchor) and installation is not None:
                whose = found.record.installation
            elif isinstance(found.record, Entry) and found.record.seq > seq and whose == installation:
                yield found.record


def head_beside(directory: Path) -> Sequence[SignedHead]:
    """Return the head that lies beside the files; none when it is not there.

    Raises:
        OSError: it cannot be read.
    """
    beside = directory / HEAD_FILE
    return heads_in(beside) if beside.is_file() else ()


def furthest_head(directory: Path) -> int:
    """Return the highest number that a head in the files, or the one beside them, says they reach; 0 without one.

    Raises:
        OSError: a file cannot be read.
    """
    records = (found.record for found in read_all(audit_files(directory)))
    heads = chain(head_beside(directory), (record for record in records if isinstance(record, SignedHead)))
    return max((signed.head.link.seq for signed in heads), default=0)

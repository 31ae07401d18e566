"""Whether audit files tell all of what was decided since a backup: else a restore lets in again whom they do not name.

* They are this installation's, and know the entry that the backup ends with.
* From there on nothing is missing, changed, out of order or unreadable. Branches are: a database was rolled back before.
* They reach as far as their own signed heads say, and those that were kept elsewhere, and have what these name.

Heads are taken at their word here, for what they say can only stop a restore; ``audit.vouching`` verifies them before anybody is
given something.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.examination import Report, examine
from ct_ops_server.audit.heads import SignedHead
from ct_ops_server.audit.lines import Anchor
from ct_ops_server.audit.reading import audit_files, read_all
from ct_ops_server.audit.replay import furthest_head
from ct_ops_server.audit.verification import Break, Fault
from ct_ops_server.backup.errors import BackupError

_ELSE = "or restore with --forget-revocations, which does again only what they tell"


class AuditFilesError(BackupError):
    """The audit files do not tell all of what was decided since the backup."""


class AuditGapError(AuditFilesError):
    """Entries since the backup are missing in them: what happened there is not known."""

    def __init__(self, directory: Path, first: int, last: int) -> None:
        which = f"entry {first}" if last <= first else f"entries {first} to {last}"
        super().__init__(
            f"{directory} does not have {which} of what was decided since the backup: put the missing audit files there too, "
            f"{_ELSE}"
        )


class AuditTailError(AuditFilesError):
    """They end before what they say of themselves."""

    def __init__(self, directory: Path, last: int, signed: int) -> None:
        super().__init__(
            f"{directory} ends with entry {last}, and a signed head says that there were {signed}: what was revoked "
            f"at the end is missing. Put the missing audit files there too, {_ELSE}"
        )


class AuditChangedError(AuditFilesError):
    """They are not what was written."""

    def __init__(self, directory: Path, found: Break) -> None:
        super().__init__(
            f"{directory} is not as it was written ({found}), and a revocation may have been there: put a whole copy there, "
            f"{_ELSE}"
        )


class AuditForeignError(AuditFilesError):
    """They are another installation's, or tell of another history."""

    def __init__(self, directory: Path, why: str) -> None:
        super().__init__(f"{directory} {why}: name the folder audit of the server that is restored, {_ELSE}")


def refuse_what_tells_half(
    directory: Path, end: Link, *, installation: str | None, kept: Sequence[SignedHead] = ()
) -> None:
    """Refuse files that may not name everybody who was revoked behind ``end``; ``kept`` are heads from elsewhere.

    Files that hold nothing newer pass: whoever calls sees that they tell nothing.

    Raises:
        AuditFilesError: says what is wrong with them.
        OSError: one cannot be read.
    """
    paths = audit_files(directory)
    report = examine(read_all(paths), keys=[], kept=kept)
    signed = max((furthest_head(directory), *(each.head.link.seq for each in kept)))
    reached, is_ours, knows_end = end.seq, True, report.first in {None, end}
    for found in read_all(paths):
        if isinstance(found.record, Entry | Anchor):
            reached = max(reached, found.record.link.seq)
            knows_end = knows_end or found.record.link == end
        if isinstance(found.record, Anchor) and installation is not None:
            is_ours = is_ours and found.record.installation == installation
    if not is_ours:
        raise AuditForeignError(directory, "holds the audit log of another installation")
    if signed > reached:
        raise AuditTailError(directory, reached, signed)
    if reached > end.seq:
        _refuse_flaws(directory, end, report)
        if not knows_end:
            raise AuditForeignError(directory, f"does not know entry {end.seq} as the backup has it")


def _refuse_flaws(directory: Path, end: Link, report: Report) -> None:
    begins = 0 if report.first is None else report.first.seq
    if begins > end.seq:
        raise AuditGapError(directory, end.seq + 1, begins)
    for found in report.breaks:
        if found.fault is Fault.MISSING and found.last > end.seq:
            raise AuditGapError(directory, max(found.seq, end.seq + 1), found.last)
        if found.fault not in {Fault.FORKED, Fault.MISSING} and found.seq >= end.seq:
            raise AuditChangedError(directory, found)

"""The folder of audit files at the place that a backup is restored to: whose it is, and what goes into it.

A chain goes on in the folder that it was written to. Files of another installation that lie there are another chain: they go aside
as they are, or every verification from then on would find two histories in one folder.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ct_ops_server.audit.lines import Anchor
from ct_ops_server.audit.reading import audit_files, read_lines

_UNFIT = re.compile(r"[^A-Za-z0-9-]")
_LONGEST = 64


def stranger_in(directory: Path, installation: str) -> str:
    """Return the id of another installation that files in a directory are of; empty: there is none.

    Raises:
        OSError: a file cannot be read.
    """
    for path in audit_files(directory):
        first = next(read_lines(path), None)
        record = None if first is None else first.record
        if isinstance(record, Anchor) and record.installation != installation:
            return record.installation
    return ""


def name_aside(installation: str) -> str:
    """Return what the folder of another installation is called where it is kept: its id is what a file says."""
    return f"audit-of-{_UNFIT.sub('-', installation)[:_LONGEST]}"


def carry(files: Sequence[Path], directory: Path) -> None:
    """Put audit files where the server goes on with them; never beside others.

    Raises:
        OSError: they cannot be written.
    """
    if audit_files(directory):
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    for file in files:
        shutil.copyfile(file, directory / file.name)
        (directory / file.name).chmod(0o600)

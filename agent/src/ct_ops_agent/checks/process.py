"""Check ``process``: something of this name runs. Reads ``/proc``.

A process counts when the kernel's name of it (``comm``, which ends after 15 characters) is the one asked for,
or else when the file name of its ``argv[0]`` is. What disappears while we look has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.verdict import Verdict, failed, passed, reason, undone
from ct_ops_proto.checks import ProcessCheck

_PROC = Path("/proc")
_SHOWN = 10


def probe(config: ProcessCheck, attempt: Attempt, proc: Path = _PROC) -> Verdict:
    """Look for it."""
    try:
        found = [pid for pid in _pids(proc) if attempt.left() and is_named(proc / pid, config.process_name)]
    except TimeoutError:
        return undone(f"{proc} was not read to its end in time")
    except OSError as error:
        return undone(f"{proc} cannot be read: {reason(error)}")
    if not found:
        return failed(f"no process named {config.process_name} is running")
    pids = ", ".join(found[:_SHOWN]) + (" and more" if len(found) > _SHOWN else "")
    return passed(f"{config.process_name} is running (pid {pids})")


def is_named(entry: Path, name: str) -> bool:
    """Whether the process behind an entry of ``/proc`` has this name."""
    return _read(entry / "comm").rstrip("\n") == name or name_of(_read(entry / "cmdline")) == name


def name_of(cmdline: str) -> str:
    """Return the file name of ``argv[0]``; empty for threads of the kernel, which have no arguments."""
    return PurePosixPath(cmdline.partition("\0")[0]).name


def _pids(proc: Path) -> Iterator[str]:
    return (entry.name for entry in sorted(proc.iterdir()) if entry.name.isdecimal())


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode(errors="replace")
    except OSError:  # it has ended, or is hidden from us
        return ""

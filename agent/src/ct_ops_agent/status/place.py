"""Where the status file is, how it is written and found.

Written to the folder that systemd made for the service (``RUNTIME_DIRECTORY``), else to
``/run/ct-ops/agent`` when somebody made that and we may write there, else to the data directory. A
file there that is about another data directory belongs to another agent of this host and is left.

Read from the same places: the newest report about the data directory in question counts. No file is
followed through a symbolic link, and a new one replaces the old one whole. It is not synced to the
disk: a power cut that takes it takes the process that it is about.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ct_ops_agent.status.report import Report, parse_report, to_json

STATUS_NAME = "status.json"
RUNTIME_FOLDER = Path("/run/ct-ops/agent")
_PUBLIC_FILE = 0o644
_LARGEST_BYTES = 64 * 1024


def folders(data_dir: Path, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders that may hold the file, most preferred first."""
    given = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return (*((Path(given),) if given else ()), RUNTIME_FOLDER, data_dir)


def choose_file(data_dir: Path, candidates: tuple[Path, ...]) -> Path:
    """Return where the agent of a data directory writes, the data directory itself when nothing else will do."""
    for folder in candidates:
        if folder != data_dir and os.access(folder, os.W_OK | os.X_OK) and _is_free(folder, data_dir):
            return folder / STATUS_NAME
    return data_dir / STATUS_NAME


def find_report(data_dir: Path, candidates: tuple[Path, ...]) -> Report | None:
    """Return the newest report about a data directory, ``None`` when there is none that can be read."""
    reports = [_read(folder / STATUS_NAME) for folder in candidates]
    ours = [report for report in reports if report and report.data_dir == str(data_dir)]
    return max(ours, key=lambda report: report.written_at, default=None)


def write_report(path: Path, report: Report) -> None:
    """Replace the file. Raises ``OSError``."""
    temporary = path.with_name(f".{path.name}.{report.pid}.new")
    with suppress(FileNotFoundError):
        temporary.unlink()  # left behind by a crash of a process with our number
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, _PUBLIC_FILE), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), _PUBLIC_FILE)  # whatever the umask says
        file.write(to_json(report))
    temporary.replace(path)


def _is_free(folder: Path, data_dir: Path) -> bool:
    found = _read(folder / STATUS_NAME)
    return found is None or found.data_dir == str(data_dir)


def _read(path: Path) -> Report | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # not there, or not for us: it says nothing
        return None
    with os.fdopen(descriptor, "rb") as file:
        return parse_report(file.read(_LARGEST_BYTES).decode(errors="replace"))

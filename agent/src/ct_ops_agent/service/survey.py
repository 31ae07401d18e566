"""What is on the host now: the only part of an installation that looks. It changes nothing."""

from __future__ import annotations

import json
import re
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct_ops_agent.errors import InstallationError
from ct_ops_agent.identity.keystore import PRIVATE_KEY_NAME
from ct_ops_agent.service import layout
from ct_ops_agent.service.build import Library, content_digest, library_in
from ct_ops_agent.service.machine import Machine

_NEWEST = 1000
"""A systemd whose version cannot be told is taken for a new one."""

_SHARED_LIBRARY = re.compile(r"libsystemd-shared-(\d+)[.-]")
_LARGEST_CONFIGURATION = 1024 * 1024


@dataclass(frozen=True)
class Installed:
    """What earlier installations have left."""

    versions: tuple[str, ...] = ()
    """Folders under `layout.VERSIONS`, each with its whole content."""

    current: str = ""
    """The one that the program is linked to."""

    user_is_ours: bool = False
    """An installation of ours made the user."""

    program_is_foreign: bool = False
    """A file of its own is in the program's place, as an existing agent's installer puts it there."""

    unit: str | None = None
    drop_ins: tuple[str, ...] = ()
    is_packaged: bool = False
    """The distribution's package manager has an agent here; a version may then be its own."""

    recorded_versions: tuple[str, ...] = ()
    """Those of the folders that installations of ours have brought."""


@dataclass(frozen=True)
class Facts:
    """A host before an installation."""

    may_be_changed: bool
    has_systemd: bool
    systemd_version: int
    has_sysusers: bool
    has_user: bool
    library: Library
    free_bytes: int
    installed: Installed
    configuration: str | None
    """The text of its file."""


def look_at(machine: Machine) -> Facts:
    """Look at a host.

    Raises:
        InstallationError: its configuration cannot be read.
    """
    return Facts(
        may_be_changed=machine.may_be_changed,
        has_systemd=machine.is_image or Path("/run/systemd/system").is_dir(),
        systemd_version=_systemd_version(machine),
        has_sysusers=shutil.which("systemd-sysusers") is not None,
        has_user=has_user(machine),
        library=library_in(machine.root),
        free_bytes=_free_bytes(machine.at(layout.VERSIONS)),
        installed=look_at_installed(machine),
        configuration=_configuration(machine),
    )


def look_at_installed(machine: Machine) -> Installed:
    """Look for what installations leave."""
    versions, program = machine.at(layout.VERSIONS), machine.at(layout.PROGRAM)
    record, drop_ins = _record(machine), machine.at(layout.DROP_INS)
    found = tuple(sorted(each.name for each in _entries(versions) if each.is_dir() and each.name[0] != "."))
    target = program.readlink() if program.is_symlink() else None
    ours = target is not None and target.parent.parent == layout.VERSIONS
    return Installed(
        versions=found,
        current=target.parent.name if target is not None and ours else "",
        user_is_ours=record.get("user") == layout.USER,
        program_is_foreign=not ours and _is_there(program),
        unit=_text(machine.at(layout.UNIT)),
        drop_ins=tuple(sorted(each.name for each in _entries(drop_ins))),
        recorded_versions=tuple(name for name in found if name in _names(record.get("versions"))),
        is_packaged=any(machine.at(path).exists() for path in layout.PACKAGED_UNITS),
    )


def same_content(machine: Machine, version: str, folder: Path) -> bool:
    """Whether a version that is on the host is, byte for byte, that of a folder."""
    return content_digest(machine.at(layout.VERSIONS / version)) == content_digest(folder)


def size_of(folder: Path) -> int:
    """Return how many bytes the files of a folder have."""
    return sum(each.lstat().st_size for each in folder.rglob("*") if each.is_file())


def owner_of(machine: Machine, path: Path) -> str | None:
    """Return the name of the user a folder belongs to, ``None`` when there is none such."""
    try:
        number = machine.at(path).stat().st_uid
    except OSError:
        return None
    with suppress(InstallationError):
        if number == machine.find_ids(layout.USER).user:
            return layout.USER
    return str(number)


def is_readable_by_all(path: Path) -> bool:
    """Whether any user of the host can read a file."""
    try:
        file, folders = path.stat(), [parent.stat() for parent in path.resolve().parents]
    except OSError:
        return False
    return bool(file.st_mode & stat.S_IROTH) and all(each.st_mode & stat.S_IXOTH for each in folders)


def data_entries(machine: Machine, data_dir: Path) -> tuple[str, ...]:
    """Return the names of what is in a data directory."""
    return tuple(sorted(each.name for each in _entries(machine.at(data_dir))))


def has_identity(machine: Machine, data_dir: Path) -> bool:
    """Whether an agent has made its key here: a key that was admitted once is invitation enough."""
    return PRIVATE_KEY_NAME in data_entries(machine, data_dir)


def has_user(machine: Machine) -> bool:
    """Whether the agent's user is there."""
    try:
        machine.find_ids(layout.USER)
    except InstallationError:
        return False
    return True


def look_for_files(machine: Machine) -> frozenset[Path]:
    """Return which of the fixed places hold something."""
    places = (
        layout.RECORD,
        layout.CONFIGURATION,
        layout.AUTHORITY,
        layout.CREDENTIAL,
        layout.OLD_CREDENTIAL,
        layout.UNIT,
        layout.CREDENTIAL_DROP_IN,
        layout.DATA_DROP_IN,
        layout.WANTED,
        layout.SYSUSERS,
    )
    return frozenset(path for path in places if _is_there(machine.at(path)))


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _configuration(machine: Machine) -> str | None:
    path = machine.at(machine.follow(layout.CONFIGURATION))
    try:
        with path.open(encoding="utf-8", newline="") as file:  # line ends stay as they are
            text = file.read(_LARGEST_CONFIGURATION + 1)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InstallationError(f"{path} cannot be read: {error}; correct it first") from error
    if len(text) > _LARGEST_CONFIGURATION:
        raise InstallationError(f"{path} is larger than 1 MiB, which no configuration is; move it away")
    return text


def _systemd_version(machine: Machine) -> int:
    """Read the version off the library that every systemd has."""
    folders = ("usr/lib/systemd", "lib/systemd", "usr/lib64/systemd", "usr/lib/*-linux-gnu/systemd")
    names = [each.name for folder in folders for each in machine.root.glob(f"{folder}/libsystemd-shared-*")]
    found = [int(match[1]) for name in names if (match := _SHARED_LIBRARY.match(name))]
    return max(found, default=_NEWEST)


def _record(machine: Machine) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        record = json.loads(machine.at(layout.RECORD).read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    return {}


def _names(value: object) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _free_bytes(path: Path) -> int:
    existing = next(each for each in (path, *path.parents) if each.is_dir())
    return shutil.disk_usage(existing).free


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None

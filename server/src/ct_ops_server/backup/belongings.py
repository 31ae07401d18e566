"""Which files of an installation a backup holds, by the name of their entry, and where each goes back to.

Everything in the data directory, whatever a later version keeps there, except what another part looks after (the
database, the audit log, copies for upgrades), what means nothing elsewhere (lock, socket), and the
private half of the release key: with the other keys a thief is the server, with that one the author of its programs.
Keys that the settings keep elsewhere are entries of their own, and go back to where the settings of then say.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ct_ops_server.authority.jwks import EXISTING_FILE
from ct_ops_server.backup.contents import ABOUT, DATABASE, is_name
from ct_ops_server.backup.errors import BackupError, DamagedError
from ct_ops_server.config.schema import Settings

SECRET = "secret"
"""The entry with the secret that opens every sealed key."""

RESTORE_MARK = "restoring"
"""In a data directory: a restore was begun here and is not finished."""

_JWT_KEY = "jwt-key"
_IN_DATA_DIR = "data/"
_LARGEST = 1024 * 1024
_NOT_OURS = frozenset({"server.lock", "admin.sock", "release-key.pem", "backups", "audit", RESTORE_MARK})
_SET_ASIDE = ("replaced-", ".")


@dataclass(frozen=True, slots=True)
class Present:
    """The files of an installation."""

    files: Mapping[str, Path]
    """By the name of their entry."""
    left_out: tuple[Path, ...]
    """What is in the data directory and cannot be ours: larger than any file of ours, or of another sort of name."""


def present(settings: Settings) -> Present:
    """Return what a backup of this installation has, but for the database.

    Raises:
        BackupError: there is no installation, or half of one.
    """
    if (mark := settings.data_dir / RESTORE_MARK).exists():
        raise BackupError(f"{mark} marks a restore that did not finish: finish it first")
    named = {name: path for name, path in _named(settings).items() if path.exists()}
    if SECRET not in named:
        raise BackupError(f"there is no installation yet: {settings.secret_file} does not exist")
    elsewhere = set(_named(settings).values()) | _database_files(settings)
    found = {
        f"{_IN_DATA_DIR}{path.relative_to(settings.data_dir)}": path
        for path in _files_below(settings.data_dir)
        if path not in elsewhere and not path.is_relative_to(settings.agent_dist_dir)
    }
    strange = {name for name, path in found.items() if not is_name(name) or path.stat().st_size > _LARGEST}
    ours = {name: path for name, path in found.items() if name not in strange}
    return Present(named | ours, tuple(found[name] for name in sorted(strange)))


def place_of(name: str, settings: Settings) -> Path:
    """Return where an entry goes back to.

    Raises:
        BackupError: the settings say no place for it.
        DamagedError: no backup of ours has such an entry.
    """
    inside = name.removeprefix(_IN_DATA_DIR)
    if inside != name and not (inside.split("/")[0] in _NOT_OURS or inside.startswith(_SET_ASIDE)):
        return settings.data_dir / inside
    if name in _VARIABLES and name not in _named(settings):
        raise BackupError(
            f"the backup was made with {_VARIABLES[name]} set: set it here to where that file shall be"
        )
    if name not in _named(settings):
        raise DamagedError(f"this backup has an entry {name!r} that belongs nowhere")
    return _named(settings)[name]


_VARIABLES = {
    "tls-cert": "INGEST_TLS_CERT",
    "tls-key": "INGEST_TLS_KEY",
    "tls-ca": "INGEST_TLS_CA",
    "agent-ca-cert": "INGEST_AGENT_CA_CERT",
    "agent-ca-key": "INGEST_AGENT_CA_KEY",
}


def is_operators(name: str) -> bool:
    """Return whether the operator looks after this file: one that is there already is not replaced."""
    return name in _VARIABLES


def is_file(name: str) -> bool:
    """Return whether an entry is a file of the installation."""
    return name not in {ABOUT, DATABASE}


def _named(settings: Settings) -> dict[str, Path]:
    chosen: dict[str, Path | None] = {
        SECRET: settings.secret_file,
        _JWT_KEY: _jwt_key(settings),
        "tls-cert": settings.tls_cert,
        "tls-key": settings.tls_key,
        "tls-ca": settings.tls_ca,
        "agent-ca-cert": None if settings.agent_ca_cert is None else settings.agent_ca_cert.path,
        "agent-ca-key": None if settings.agent_ca_key is None else settings.agent_ca_key.path,
    }
    return {name: path for name, path in chosen.items() if path is not None}


def _jwt_key(settings: Settings) -> Path:
    ours = settings.data_dir / "jwt_key.pem"
    try:
        existing = EXISTING_FILE.exists()
    except PermissionError:
        existing = False
    return settings.jwt_key_file or (EXISTING_FILE if existing else ours)


def _database_files(settings: Settings) -> set[Path]:
    _, _, path = settings.database_url.partition("sqlite:///")
    return {Path(path + end) for end in ("", "-wal", "-shm", "-journal")} if path else set()


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _NOT_OURS or path.name.startswith(_SET_ASIDE) or ".replaced-" in path.name:
            continue
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _files_below(path)
        elif stat.S_ISREG(mode):
            yield path

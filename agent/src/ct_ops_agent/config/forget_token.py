"""Take the enrolment token out of a configuration file, and nothing else.

The file is an operator's: every other line, every comment and the mode stay. So lines are removed, not
a document rewritten; and because lines can mislead (a string over several lines may hold what looks
like a key), the result is parsed and must be the old document without the token, or nothing is changed.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from ct_ops_agent.errors import ConfigError, Problem

_NAMES = ("enrolment_token", "org_token")
_TABLE = re.compile(r"\s*\[\s*(?P<name>[^\[\]]+?)\s*\]\s*(?:#.*)?")
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(
    rf"""\s*(?P<key>[\w."'-]+(?:\s*\.\s*[\w"'-]+)*)\s*=\s*{_VALUE}\s*(?P<comment>\#.*)?""", re.VERBOSE
)
_TOKEN = re.compile(r"tok_[a-z2-7]{32}")


@dataclass(frozen=True)
class Forgotten:
    """What was done."""

    removed: bool
    left_in_comment: bool
    """A comment of the file still holds something like a token."""


def forget_token(path: Path) -> Forgotten:
    """Remove the token from a file.

    Raises:
        ConfigError: the file cannot be read or written, or the token stands where only a human can remove it.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:  # line ends stay as they are
            text = file.read()
        kept = without_token(text)
        if kept != text:
            _replace(path.resolve(), kept)
    except FileNotFoundError:
        return Forgotten(removed=False, left_in_comment=False)
    except OSError as error:
        raise ConfigError([Problem("-config", f"cannot change {path}: {error.strerror}")]) from error
    except ValueError as error:
        raise ConfigError(
            [Problem("agent.enrolment_token", f"remove it from {path} by hand: {error}")]
        ) from error
    return Forgotten(kept != text, holds_something_like_a_token(kept))


def without_token(text: str) -> str:
    """Return the text of a configuration without its enrolment token; comments stay.

    Raises:
        ValueError: the token cannot be removed without touching something else.
    """
    table, kept = "", []
    for line in text.splitlines(keepends=True):
        if header := _TABLE.fullmatch(line.rstrip("\r\n")):
            table = _plain(header["name"])
        kept.append(_shortened(line, table))
    result = "".join(kept)
    if _without(tomli.loads(result)) != _without(tomli.loads(text)) or _holds_token(tomli.loads(result)):
        raise ValueError("it does not stand on a line of its own")
    return result


def holds_something_like_a_token(text: str) -> bool:
    """Whether a text, whatever its form, holds what looks like an enrolment token of ours."""
    return _TOKEN.search(text) is not None


def _shortened(line: str, table: str) -> str:
    """Return a line as it stays: whole, as its comment, or not at all."""
    body = line.rstrip("\r\n")
    found = _KEY.fullmatch(body)
    if found is None:
        return line
    path = _plain(f"{table}.{found['key']}" if table else found["key"])
    if path not in {f"agent.{name}" for name in _NAMES}:
        return line
    return found["comment"] + line[len(body) :] if found["comment"] else ""


def _plain(name: str) -> str:
    """Return a dotted key without spaces and quotes."""
    return re.sub(r"[\s\"']", "", name)


def _holds_token(document: dict[str, Any]) -> bool:
    return any(name in document.get("agent", {}) for name in _NAMES)


def _without(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without token, and without the table that held nothing else."""
    agent = {name: value for name, value in document.get("agent", {}).items() if name not in _NAMES}
    others = {name: table for name, table in document.items() if name != "agent"}
    return others | ({"agent": agent} if agent else {})


def _replace(path: Path, text: str) -> None:
    """Replace a file whole; mode and owner stay. Raises ``OSError``."""
    before = path.stat()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8", newline="") as file:
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), before.st_mode & 0o7777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

r"""The form of ``/etc/ct-ops/server.env``: ``KEY=VALUE`` lines as a shell and systemd read them.

    # a comment
    export INGEST_GRPC_PORT=9443        # export is ignored
    DATABASE_URL='postgresql://ops:pa$$word#1@db/ops'

Quotes are removed, nothing is expanded, ``#`` begins a comment only at the beginning of a word. What
a shell and systemd would read differently (a space outside quotes) is refused rather than guessed.
A later line wins over an earlier one.
"""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ct_ops_server.config.problems import Problem

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REMEDY = "Write KEY=VALUE, with single quotes around a value that has spaces or quotes"


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a file says, and what in it could not be read."""

    values: dict[str, str]
    problems: tuple[Problem, ...] = ()


class _MalformedLineError(ValueError):
    """A line that is neither empty nor an assignment."""


def load_env_file(path: Path) -> EnvFile:
    """Return what the file says; nothing when it is missing. A problem when it is there and unreadable."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return EnvFile({})
    except UnicodeDecodeError:
        return EnvFile({}, (Problem(str(path), "is no UTF-8 text", "Save it as plain text"),))
    except OSError as error:
        remedy = f"Make it readable for this user (chgrp, chmod 0640), or remove it: {path}"
        return EnvFile({}, (Problem(str(path), f"cannot be read ({error.strerror})", remedy),))
    return parse_env_file(text, name=str(path))


def parse_env_file(text: str, *, name: str) -> EnvFile:
    """Return the assignments in ``text``; ``name`` stands before the line number of a problem."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() would split at more than a shell
        try:
            values.update(_parse_line(line))
        except _MalformedLineError as error:
            problems.append(Problem(f"{name}:{number}", str(error), _REMEDY))
    return EnvFile(values, tuple(problems))


def _parse_line(line: str) -> dict[str, str]:
    """Return the one assignment of a line, or none. Never repeats the line: it may hold a password."""
    stripped = line.strip()
    if not stripped or stripped.startswith("#"):
        return {}
    assignment = _first_word(re.sub(r"^export\s+", "", stripped))
    key, separator, value = assignment.partition("=")
    if not separator:
        raise _MalformedLineError("has no equals sign")
    if not _KEY.fullmatch(key):
        raise _MalformedLineError("has no variable name before the equals sign")
    return {key: value}


def _first_word(text: str) -> str:
    """Return the only word of ``text``, unquoted; a comment may follow."""
    stream = io.StringIO(text)
    words = shlex.shlex(stream, posix=True)
    words.whitespace_split = True
    words.commenters = ""  # the library would end an unquoted value at any #
    try:
        word = words.get_token() or ""
    except ValueError as error:
        raise _MalformedLineError("has a quote that is not closed, or ends in a backslash") from error
    rest = stream.read().strip()
    if rest and not rest.startswith("#"):
        raise _MalformedLineError("has a space outside quotes")
    return word

"""Who says what: environment over file, a new name over an old one, and ``NAME_FILE`` for secrets.

Empty means unset. Within one source, a secret given both as ``NAME`` and as ``NAME_FILE`` is a
problem: nobody can know which was meant. An unknown name that begins like ours is one too; so is, in
our own file, a name that is nearly one of ours (a mistyped ``DATABASE_URL`` would quietly start an
empty SQLite database).

What an orchestrator adds by itself for a service called ``ingest`` (``INGEST_SERVICE_HOST``,
``INGEST_PORT=tcp://…``) is nobody's mistake and is ignored.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ct_ops_server.config import variables
from ct_ops_server.config.problems import Problem
from ct_ops_server.config.schema import Source
from ct_ops_server.config.variables import Variable

_MAX_SECRET_BYTES = 64 * 1024
_CLOSE = 0.85
_INJECTED_NAME = re.compile(r".+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP)(_[A-Z]+)?)")
_INJECTED_VALUE = re.compile(r"(tcp|udp)://")

Spoken = Mapping[Source, Mapping[str, str]]
"""Everything that is set and says something, by source, the strongest first."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The text that counts for one variable."""

    text: str = field(repr=False)
    name: str
    """The spelling that was used: an old name, or with ``_FILE``."""
    source: Source


def gather(environ: Mapping[str, str], file_values: Mapping[str, str]) -> Spoken:
    """Return what each source says, without what is empty unless that says something."""
    meaningful = variables.names_with_meaningful_emptiness()
    return {
        source: {name: text for name, text in values.items() if text.strip() or name in meaningful}
        for source, values in ((Source.ENVIRONMENT, environ), (Source.FILE, file_values))
    }


def choose(variable: Variable, spoken: Spoken) -> Chosen | Problem | None:
    """Return the text that counts, what is wrong with it, or None when nobody says anything."""
    for source, values in spoken.items():
        for name in (variable.name, *variable.old_names):
            direct, in_file = values.get(name), values.get(f"{name}_FILE") if variable.secret else None
            if direct is not None and in_file is not None:
                return Problem(name, f"and {name}_FILE are both set", "Keep one of them")
            if direct is not None:
                return Chosen(direct.strip(), name, source)
            if in_file is not None:
                return _secret_in(Path(in_file.strip()), f"{name}_FILE", source)
    return None


def unknown_names(spoken: Spoken) -> list[Problem]:
    """Return a problem for each name that is meant for us and that nobody knows."""
    known = variables.names_in_effect() | variables.names_deferred() | variables.OF_AGENTS
    problems = []
    for source, values in spoken.items():
        for name in sorted(values.keys() - known):
            near = difflib.get_close_matches(name, sorted(variables.names_in_effect()), n=1, cutoff=_CLOSE)
            if _is_injected(name, values[name]) or not (
                name.startswith(variables.PREFIXES) or (source is Source.FILE and near)
            ):
                continue
            problems.append(Problem(name, f"({source}) is no variable of this server", _advice(name)))
    return problems


def without_effect(spoken: Spoken) -> list[str]:
    """Return the names that are set and whose feature is not built yet, sorted."""
    return sorted(variables.names_deferred() & {name for values in spoken.values() for name in values})


def _advice(name: str) -> str:
    known = sorted(variables.names_in_effect() | variables.names_deferred())
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}? Otherwise remove it" if near else "Remove it"


def _is_injected(name: str, value: str) -> bool:
    return bool(_INJECTED_NAME.fullmatch(name) or _INJECTED_VALUE.match(value))


def _secret_in(path: Path, name: str, source: Source) -> Chosen | Problem:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SECRET_BYTES + 1)
        text = content.decode().strip()
    except OSError as error:
        return Problem(
            name, f"names {path}, which cannot be read ({error.strerror})", "Correct the path or its mode"
        )
    except UnicodeDecodeError:
        return Problem(name, f"names {path}, which is no text", "Name the file that holds the secret")
    if not text or len(content) > _MAX_SECRET_BYTES:
        return Problem(
            name, f"names {path}, which is empty or far too long", "Name the file that holds the secret"
        )
    return Chosen(text, name, source)

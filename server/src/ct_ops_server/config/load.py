"""From environment and file to settings, or to all the problems at once.

The shell around the pure parts: it reads the file, the secrets' files and the named keys, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

from ct_ops_server.config.env_file import load_env_file
from ct_ops_server.config.key_files import key_file_problems
from ct_ops_server.config.problems import ConfigError, Problem
from ct_ops_server.config.schema import Settings, Source
from ct_ops_server.config.sources import Chosen, Spoken, choose, gather, unknown_names, without_effect
from ct_ops_server.config.variables import DATA_DIR_MARK, DEFAULT_DATA_DIR, ENV_FILE, VARIABLES, Variable

_ANYWHERE = frozenset((None, "0.0.0.0", "::"))  # noqa: S104 - compared with, not bound to


class Shown(TypedDict):
    """One line of ``config show``."""

    name: str
    value: str
    """As it would be written, passwords masked; empty when absent."""
    source: str


def load_settings(environ: Mapping[str, str], *, env_file: Path = ENV_FILE) -> Settings:
    """Return the settings.

    Args:
        environ: the environment, which wins.
        env_file: read beside it; it may be missing.

    Raises:
        ConfigError: with every problem there is.
    """
    file = load_env_file(env_file)
    spoken = gather(environ, file.values)
    choices = {variable.name: choose(variable, spoken) for variable in VARIABLES}
    fields, malformed = _parse_all(choices)
    settings = Settings(**fields, sources=_sources(choices), notices=tuple(_notices(choices, spoken)))
    settings = _without_missing_defaults(settings)
    wrong = {problem.name for problem in malformed}
    combined = [
        *_clashes(settings),
        *_too_many_workers(settings),
        *_kept_too_short(settings),
        *key_file_problems(settings),
    ]
    problems = [*file.problems, *unknown_names(spoken), *malformed]
    # What was malformed counts as its default here: nothing that follows from that is worth telling.
    problems += [problem for problem in combined if problem.name not in wrong]
    if problems:
        raise ConfigError(problems)
    return settings


def check(environ: Mapping[str, str], *, env_file: Path = ENV_FILE) -> list[Problem]:
    """Return every problem of the configuration; none when a server could start with it."""
    try:
        load_settings(environ, env_file=env_file)
    except ConfigError as error:
        return list(error.problems)
    return []


def describe(settings: Settings) -> list[Shown]:
    """Return what is in effect, for people and programs to read: passwords masked."""
    return [
        Shown(
            name=variable.name,
            value=variable.mask(_written(getattr(settings, variable.field))),
            source=settings.sources[variable.name],
        )
        for variable in VARIABLES
    ]


def _parse_all(choices: Mapping[str, Chosen | Problem | None]) -> tuple[dict[str, Any], list[Problem]]:
    """Return a value for every field, the default in place of a malformed one, and the problems."""
    fields: dict[str, Any] = {}
    problems: list[Problem] = []
    data_dir = DEFAULT_DATA_DIR
    for variable in sorted(VARIABLES, key=lambda variable: variable.field != "data_dir"):  # defaults need it
        choice = choices[variable.name]
        value = _parse(variable, choice) if isinstance(choice, Chosen) else choice
        if isinstance(value, Problem):
            problems.append(value)
        absent = choice is None or isinstance(value, Problem)
        fields[variable.field] = _default(variable, data_dir) if absent else value
        data_dir = str(fields["data_dir"])
    return fields, problems


def _parse(variable: Variable, chosen: Chosen) -> object:
    try:
        return variable.parse(chosen.text)
    except ValueError as error:
        return Problem(chosen.name, str(error), f"It accepts {variable.accepts.replace('`', '')}")


def _default(variable: Variable, data_dir: str) -> object:
    if variable.default is None:
        return variable.absent
    return variable.parse(variable.default.replace(DATA_DIR_MARK, data_dir))


def _sources(choices: Mapping[str, Chosen | Problem | None]) -> Mapping[str, Source]:
    return MappingProxyType(
        {
            name: choice.source if isinstance(choice, Chosen) else Source.DEFAULT
            for name, choice in choices.items()
        }
    )


def _notices(choices: Mapping[str, Chosen | Problem | None], spoken: Spoken) -> Iterator[str]:
    for name, choice in choices.items():
        if isinstance(choice, Chosen) and choice.name.removesuffix("_FILE") != name.removesuffix("_FILE"):
            yield f"{choice.name} is the old name of {name}: it still works, rename it."
    if idle := without_effect(spoken):
        yield f"Set, but without effect in this version: {', '.join(idle)}."


def _without_missing_defaults(settings: Settings) -> Settings:
    """Turn off what is on by default only where its file is there: nobody asked for it."""
    settings = _without_missing_proxy(settings)
    path = settings.web_server_cert
    if path is None or settings.sources["INGEST_WEB_SERVER_CERT"] is not Source.DEFAULT or path.exists():
        return settings
    notice = f"INGEST_WEB_SERVER_CERT: {path} does not exist; agents are not told of its rotation."
    return replace(settings, web_server_cert=None, information=(*settings.information, notice))


def _without_missing_proxy(settings: Settings) -> Settings:
    """Most installations have no proxy, so nothing is said about a certificate that nobody named."""
    path = settings.web_tls_cert
    if path is None or settings.sources["WEB_TLS_CERT"] is not Source.DEFAULT or path.exists():
        return settings
    return replace(settings, web_tls_cert=None)


def _clashes(settings: Settings) -> list[Problem]:
    """Return a problem when the two listeners want the same port of the same interface."""
    same_place = settings.grpc_host == settings.http_host or _ANYWHERE & {
        settings.grpc_host,
        settings.http_host,
    }
    if not same_place or settings.grpc_port != settings.http_port or settings.grpc_port == 0:
        return []
    what = f"is {settings.http_port}, which INGEST_GRPC_PORT is too"
    return [Problem("INGEST_HTTP_PORT", what, "Choose two different ports")]


def _too_many_workers(settings: Settings) -> list[Problem]:
    """Return a problem when several processes would write one SQLite file: they would only wait for each other."""
    if settings.workers == 1 or not settings.database_url.startswith("sqlite"):
        return []
    what = f"is {settings.workers}, and the database is SQLite, which one worker serves best"
    return [Problem("INGEST_WORKERS", what, "Set DATABASE_URL to a PostgreSQL database, or use 1 worker")]


def _kept_too_short(settings: Settings) -> list[Problem]:
    """Return a problem for each resolution of samples that would be gone before a finer one."""
    finest_first = [variable for variable in VARIABLES if variable.field.startswith("samples_keep")]
    return [
        Problem(coarser.name, f"is shorter than {finer.name}", "Keep what is rolled up at least as long")
        for finer, coarser in pairwise(finest_first)
        if getattr(settings, coarser.field) < getattr(settings, finer.field)
    ]


def _written(value: object) -> str:
    """Return a value as it would be written in the file."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)

"""Load the configuration: flag before environment before systemd credential before file before default.

Rules kept here:

* every problem is reported, each by its dotted key (`problems`);
* an empty value counts as unset, text is trimmed;
* old names (``org_token``, ``CT_OPS_ORG_TOKEN``) work, with one warning each; the new name wins;
* a missing default file is fine, a missing file that was named is not;
* the enrolment token leaves ``os.environ`` at once, so that no child process inherits it.
"""

import os
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import tomli

from ct_ops_agent.config.collectors import SECTION, CollectorConfig, read_collectors
from ct_ops_agent.config.effective import Effective, effective_collectors, effective_keys
from ct_ops_agent.config.problems import ProblemList, unknown_key_text
from ct_ops_agent.config.schema import DEFAULT_FILE, KEYS, AgentConfig, Key
from ct_ops_agent.errors import ConfigError, Problem
from ct_ops_agent.identity.keystore import parse_pem

_LARGEST_FILE_BYTES = 1024 * 1024
_TOKEN_KEY = "agent.enrolment_token"

CREDENTIAL_NAME = "enrolment_token"
"""What a unit calls it: ``LoadCredential=enrolment_token:PATH``."""


@dataclass(frozen=True)
class Flags:
    """What the command line says; ``None`` and empty mean that it says nothing."""

    config_file: Path | None = None
    address: str | None = None
    token: str | None = field(default=None, repr=False)
    """``-`` reads standard input."""

    token_file: Path | None = None
    tags: tuple[str, ...] = ()
    tls_skip_verify: bool | None = None


@dataclass(frozen=True)
class Loaded:
    """A configuration that can work."""

    config: AgentConfig
    warnings: tuple[str, ...]
    effective: tuple[Effective, ...] = ()


@dataclass(frozen=True)
class _Found:
    """A raw value and where it comes from."""

    value: object = field(repr=False)
    origin: str


def load_config(
    flags: Flags, environment: MutableMapping[str, str], *, stdin: TextIO | None = None
) -> Loaded:
    """Read all sources.

    Args:
        flags: the command line.
        environment: usually ``os.environ``; the enrolment token is taken out of it.
        stdin: where ``-token -`` reads; the process's standard input by default.

    Raises:
        ConfigError: with every problem there is.
    """
    problems = ProblemList()
    warnings: list[str] = []
    overrides = _take_environment(environment, warnings)
    flagged = _read_flags(flags, stdin or sys.stdin, problems, warnings)
    document = _read_document(flags.config_file, problems)
    credential = _read_credential(environment, problems)
    in_file = {key.path: _find_in_file(key, document, warnings) for key in KEYS}
    sources = (flagged, overrides, credential, in_file)
    chosen = {key.path: _first(source.get(key.path) for source in sources) for key in KEYS}
    values = {key.path: _parse(key, chosen[key.path], problems) for key in KEYS}
    collectors = read_collectors(document, problems)
    _report_unknown(document, problems)
    _check_ca_file(values["ingest.ca_cert_file"], problems)
    problems.raise_if_any()
    from_file = not any(_TOKEN_KEY in source for source in (flagged, overrides, credential))
    holder = (flags.config_file or DEFAULT_FILE) if from_file and in_file[_TOKEN_KEY] else None
    file = str(flags.config_file or DEFAULT_FILE)
    origins = {path: "default" if found is None else found.origin or file for path, found in chosen.items()}
    effective = (*effective_keys(values, origins), *effective_collectors(collectors))
    return Loaded(_as_config(values, collectors, token_file=holder), tuple(warnings), effective)


def require_enrolment_token(config: AgentConfig) -> None:
    """Refuse a configuration that gives a new host nothing to be admitted with.

    Raises:
        ConfigError: there is no enrolment token.
    """
    if config.enrolment_token is None:
        text = (
            "this host is not enrolled and has no enrolment token; create one on the server "
            "(ct-ops-server token create) and set it here or in CT_OPS_ENROLMENT_TOKEN; "
            "or, where the server cannot be reached, type: ct-ops-agent enrol --request FILE"
        )
        raise ConfigError([Problem(_TOKEN_KEY, text)])


def _as_config(
    values: Mapping[str, Any], collectors: CollectorConfig, *, token_file: Path | None
) -> AgentConfig:
    return AgentConfig(
        address=values["ingest.address"],
        ca_cert_file=values["ingest.ca_cert_file"],
        tls_skip_verify=values["ingest.tls_skip_verify"],
        enrolment_token=values[_TOKEN_KEY],
        data_dir=values["agent.data_dir"],
        heartbeat_interval=values["agent.heartbeat_interval_secs"],
        tags=values["agent.tags"],
        hostname=values["agent.hostname"],
        outbox_max_bytes=values["outbox.max_bytes"],
        outbox_max_age=timedelta(hours=values["outbox.max_age_hours"]),
        token_file=token_file,
        collectors=collectors,
    )


def _first(candidates: Iterable[_Found | None]) -> _Found | None:
    """Return what the first source says that says anything."""
    return next((found for found in candidates if found is not None and not _is_empty(found.value)), None)


def _parse(key: Key, found: _Found | None, problems: ProblemList) -> object:
    """Return the value, the default when no source has one."""
    if found is None:
        return key.default
    try:
        return key.parse(found.value)
    except ValueError as error:
        problems.add(key.path, f"{error}{found.origin}")
        return key.default


def _take_environment(environment: MutableMapping[str, str], warnings: list[str]) -> dict[str, _Found]:
    found = {}
    for key in KEYS:
        for name in filter(None, (key.environment, key.old_environment)):
            value = environment.pop(name, "") if key.secret else environment.get(name, "")
            if not value.strip() or key.path in found:
                continue
            if name == key.old_environment:
                warnings.append(f"{name} is the old name of {key.environment}; rename it")
            found[key.path] = _Found(value, f" (from {name})")
    return found


def _find_in_file(key: Key, document: Mapping[str, object], warnings: list[str]) -> _Found | None:
    for path in filter(None, (key.path, key.old_path)):
        section, _, name = path.partition(".")
        table = document.get(section)
        if isinstance(table, dict) and name in table and not _is_empty(table[name]):
            if path == key.old_path:
                warnings.append(f"{path} is the old name of {key.path}; rename it in the configuration file")
            return _Found(table[name], "")
    return None


def _read_flags(flags: Flags, stdin: TextIO, problems: ProblemList, warnings: list[str]) -> dict[str, _Found]:
    values: dict[str, object] = {
        "ingest.address": flags.address,
        "ingest.tls_skip_verify": flags.tls_skip_verify,
        "agent.tags": flags.tags,
        _TOKEN_KEY: _read_token_flag(flags, stdin, problems, warnings),
    }
    flag_of = {key.path: key.flag for key in KEYS}
    return {
        path: _Found(value, f" (from {flag_of[path]})")
        for path, value in values.items()
        if not _is_empty(value)
    }


def _read_token_flag(flags: Flags, stdin: TextIO, problems: ProblemList, warnings: list[str]) -> str | None:
    if flags.token_file is not None:
        if flags.token is not None:
            problems.add(_TOKEN_KEY, "both -token and -token-file are given; keep -token-file")
        return _read_file(flags.token_file, _TOKEN_KEY, problems)
    if flags.token == "-":
        return stdin.read(_LARGEST_FILE_BYTES)
    if flags.token is not None:
        warnings.append(
            "a token given as -token VALUE can be seen by every user of this host (ps); "
            "use -token-file PATH, -token - or CT_OPS_ENROLMENT_TOKEN"
        )
    return flags.token


def _read_credential(environment: Mapping[str, str], problems: ProblemList) -> dict[str, _Found]:
    """Read the token that systemd hands over in a folder of the unit's own (``LoadCredential``)."""
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    if not folder or not (path := Path(folder) / CREDENTIAL_NAME).exists():
        return {}
    text = _read_file(path, _TOKEN_KEY, problems) or ""
    return (
        {_TOKEN_KEY: _Found(text, f" (from the systemd credential {CREDENTIAL_NAME})")}
        if text.strip()
        else {}
    )


def _read_document(named: Path | None, problems: ProblemList) -> dict[str, object]:
    path = named or DEFAULT_FILE
    if named is None and not path.exists():
        return {}
    text = _read_file(path, "-config", problems)
    try:
        return tomli.loads(text or "")
    except tomli.TOMLDecodeError as error:
        problems.add("-config", f"{path} is not valid TOML: {error}; correct that place")
        return {}


def _read_file(path: Path, key: str, problems: ProblemList) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_LARGEST_FILE_BYTES)
    except OSError as error:
        problems.add(key, f"cannot read {path}: {error.strerror}; correct the path or its permissions")
    except UnicodeDecodeError:
        problems.add(key, f"{path} is no UTF-8 text; save it as UTF-8")
    return None


def _report_unknown(document: Mapping[str, object], problems: ProblemList) -> None:
    known = {path for key in KEYS for path in (key.path, key.old_path) if path}
    sections = {SECTION, *(key.section for key in KEYS)}
    for section, table in document.items():
        if section not in sections:
            problems.add(section, unknown_key_text(section, sections))
        elif not isinstance(table, dict):
            problems.add(section, f"this is a table; write [{section}] on a line of its own")
        elif section != SECTION:
            for name in table:
                if f"{section}.{name}" not in known:
                    problems.add(f"{section}.{name}", unknown_key_text(f"{section}.{name}", known))


def _check_ca_file(path: object, problems: ProblemList) -> None:
    if not isinstance(path, Path):
        return
    text = _read_file(path, "ingest.ca_cert_file", problems)
    if text is not None and not any(label.endswith("CERTIFICATE") for label, _ in parse_pem(text)):
        problems.add(
            "ingest.ca_cert_file", f"{path} holds no certificate; give a PEM file (BEGIN CERTIFICATE)"
        )


def _is_empty(value: object) -> bool:
    return value is None or value == () or (isinstance(value, str) and not value.strip())


def read_environment() -> MutableMapping[str, str]:
    """Return the process's environment, from which the enrolment token will be taken."""
    return os.environ

"""The sample configuration: every key with its meaning and its default, commented out, made from the schema.

Each comment is prose (``# …``) or a setting (``#key = value``): without the mark the settings are valid as
they stand, and tests hold it to that.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from ct_ops_agent.catalog import Catalog
from ct_ops_agent.config.collector_pages import OwnKey, keys_of, own_keys, toml_of
from ct_ops_agent.config.schema import KEYS, Key

_WIDTH = 100

_EXAMPLES: dict[str, Any] = {
    "ingest.address": "ingest.example.com:9443",
    "ingest.ca_cert_file": "/etc/ct-ops/ca.crt",
    "agent.enrolment_token": "tok_…",
    "agent.tags": ["env:prod", "site:lab"],
    "agent.hostname": "web-1.example.com",
}
"""What is written for keys that have no default."""

_NOT_SHOWN = {"agent.version"}
"""Accepted for the sake of existing files, and of no effect."""

_NOT_VALID_AS_IT_STANDS = {"ingest.ca_cert_file", "agent.enrolment_token"}
"""Names a file, or a secret, that only the operator has."""

_HEAD = """\
# The configuration of the CT-Ops agent. Every key is here, with its default, commented out: remove the # of
# what you change. `ct-ops-agent config check` tells every mistake, `config show` what is in effect.
"""


def sample_toml() -> str:
    """Return the whole sample."""
    sections = dict.fromkeys(key.section for key in KEYS)
    parts = [_HEAD, *("\n".join(_section(section)) + "\n" for section in sections)]
    return "\n".join([*parts, _collectors()])


def settings_in(sample: str) -> str:
    """Return a sample with every setting in effect that is valid as it stands."""
    lines = (line.removeprefix("#") if _is_setting(line) else line for line in sample.splitlines())
    return "\n".join(lines)


def _is_setting(line: str) -> bool:
    return line.startswith("#") and not line.startswith("# ") and len(line) > 1


def _section(section: str) -> Iterator[str]:
    yield f"[{section}]"
    for key in KEYS:
        if key.section == section and key.path not in _NOT_SHOWN:
            yield ""
            yield from _prose(_meaning(key))
            mark = "# " if key.path in _NOT_VALID_AS_IT_STANDS else "#"
            yield f"{mark}{key.name} = {toml_of(_shown(key))}"


def _meaning(key: Key) -> str:
    meaning = key.meaning.replace("`", "")
    return f"{meaning} In the environment: {key.environment}." if key.environment else meaning


def _shown(key: Key) -> Any:
    if key.path in _EXAMPLES:
        return _EXAMPLES[key.path]
    match key.default:
        case timedelta():
            seconds = int(key.default.total_seconds())
            return seconds // 3600 if key.name.endswith("_hours") else seconds
        case Path():
            return str(key.default)
        case _:
            return key.default


def _collectors() -> str:
    catalog = Catalog()
    lines = ["# ---- Collectors: what is read on this host, and how often ----", "", "[collectors]", ""]
    lines += [
        *_prose("Plug-ins of other packages that may be loaded into the agent."),
        "#allowed = []",
        "",
    ]
    for name in catalog.names:
        kind = catalog.load(name)
        lines += [*_prose(kind.about.summary), f"#[collectors.{name}]"]
        for key in keys_of(kind):
            lines += _own_key(key)
        lines.append("")
    return "\n".join([*lines, *_programs()])


def _programs() -> Iterator[str]:
    from ct_ops_agent.foreign.exec_program import ExecSettings  # noqa: PLC0415  for the sample only

    yield from _prose("Any program that prints JSON lines or the text format of Prometheus; one block each.")
    yield "#[[collectors.exec]]"
    yield from _own_key(OwnKey("name", "str", "backup", "What its samples begin with."))
    for key in own_keys(ExecSettings):
        example = ["/usr/local/lib/backup-state"] if key.name == "command" else key.default
        yield from _own_key(OwnKey(key.name, key.kind, example, key.meaning))


def _own_key(key: OwnKey) -> list[str]:
    return [*_prose(key.meaning), f"#{key.name} = {toml_of(key.default)}"]


def _prose(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]

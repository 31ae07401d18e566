"""What a collector says of itself, as a page: for the terminal and for the documentation, from its code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import msgspec

from ct_ops_agent.catalog import Catalog
from ct_ops_agent.collector import About, AnyCollector, Settings
from ct_ops_agent.collectors import BUILT_IN
from ct_ops_agent.config.durations import spell


@dataclass(frozen=True)
class OwnKey:
    """A key of a collector's own."""

    name: str
    kind: str
    default: Any
    meaning: str


def own_keys(settings: type[Settings]) -> list[OwnKey]:
    """Return a collector's own keys, read from its settings."""
    return [_own_key(field) for field in msgspec.structs.fields(settings)]


def page_of(kind: type[AnyCollector]) -> str:
    """Return everything about a collector, for a terminal."""
    about = kind.about
    lines = [about.summary, "", *(f"{name:<10}{text}" for name, text in _facts(about)), "", "samples"]
    lines += [
        f"  {_sample_name(doc.name, doc.labels):<48}{doc.unit:<9}{doc.meaning}" for doc in about.samples
    ]
    lines += [
        "",
        "keys",
        *(f"  {key.name} = {toml_of(key.default)}    {key.meaning}" for key in keys_of(kind)),
    ]
    return "\n".join(line.rstrip() for line in lines)


def document_of(kind: type[AnyCollector]) -> dict[str, Any]:
    """Return the same for programs."""
    about = kind.about
    return {
        "name": about.name,
        "summary": about.summary,
        "on_by_default": about.on_by_default,
        "interval_s": about.interval.total_seconds(),
        "timeout_s": about.timeout.total_seconds(),
        "reads": about.reads,
        "costs": about.cost,
        "privilege": msgspec.to_builtins(about.privilege),
        "samples": [msgspec.to_builtins(doc) for doc in about.samples],
        "keys": [{"name": key.name, "default": key.default, "meaning": key.meaning} for key in keys_of(kind)],
    }


def keys_of(kind: type[AnyCollector]) -> list[OwnKey]:
    """Return every key of ``[collectors.NAME]``: those that all have, then its own."""
    about = kind.about
    return [
        OwnKey("enabled", "bool", about.on_by_default, "Whether it runs."),
        OwnKey("interval", "str", spell(about.interval), "How often."),
        OwnKey("timeout", "str", spell(about.timeout), "How long a run may take."),
        *own_keys(kind.settings_type),
    ]


def collectors_markdown() -> str:
    """Return the pages of all built-in collectors, for ``docs/collectors.md``."""
    catalog = Catalog()
    return "\n\n".join(_markdown(catalog.load(name)) for name in sorted(BUILT_IN))


def toml_of(value: Any) -> str:
    """Return a value as TOML spells it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case list() | tuple():
            return f"[{', '.join(map(toml_of, value))}]"
        case dict():
            return (
                f"{{ {', '.join(f'{key} = {toml_of(each)}' for key, each in value.items())} }}"
                if value
                else "{}"
            )
        case _:
            return str(value)


def _facts(about: About) -> Iterator[tuple[str, str]]:
    state = "on" if about.on_by_default else "off"
    yield "default", f"{state}, every {spell(about.interval)}, at most {spell(about.timeout)} a run"
    yield "reads", about.reads.replace("`", "")
    yield "costs", about.cost
    yield "needs", _needs(about)
    if not sys.platform.startswith(about.platforms):
        yield "platform", f"works on {', '.join(about.platforms)} only"


def _needs(about: About) -> str:
    privilege = about.privilege
    wanted = [*privilege.capabilities, *(f"group {name}" for name in privilege.groups), *privilege.readable]
    if not privilege.without:
        return "no privilege"
    return f"{', '.join(wanted) or 'no privilege'}; without: {privilege.without}"


def _markdown(kind: type[AnyCollector]) -> str:
    about = kind.about
    state = "on" if about.on_by_default else "**off**"
    lines = [f"### {about.name}", "", about.summary, ""]
    lines += [
        (
            f"By default {state}, every {spell(about.interval)}, at most {spell(about.timeout)} a run. "
            f"Reads {about.reads}. Costs {about.cost}. Needs {_needs(about)}."
        ),
        "",
        "| sample | unit | meaning |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{_sample_name(doc.name, doc.labels)}` | {doc.unit} | {doc.meaning} |" for doc in about.samples
    ]
    own = own_keys(kind.settings_type)
    if own:
        lines += ["", "| key | default | meaning |", "|---|---|---|"]
        lines += [f"| `{key.name}` | `{toml_of(key.default)}` | {key.meaning} |" for key in own]
    return "\n".join(lines)


def _sample_name(name: str, labels: tuple[str, ...]) -> str:
    return f"{name}{{{','.join(labels)}}}" if labels else name


def _own_key(field: msgspec.structs.FieldInfo) -> OwnKey:
    default = field.default
    if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    meaning = ""
    kind = field.type
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        meaning = next(
            (note.description for note in notes if isinstance(note, msgspec.Meta) and note.description), ""
        )
    return OwnKey(field.name, getattr(kind, "__name__", str(kind)), default, meaning)

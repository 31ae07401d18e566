"""Prints the types of checks and their keys for ``docs/checks.md`` (`make docs`)."""

from __future__ import annotations

from collections.abc import Iterator

from ct_ops_proto.check_keys import ConfigKey
from ct_ops_proto.checks import CHECK_TYPES, keys_of


def check_types_markdown() -> str:
    """Return a section for each type of check: what it sees to, its timeout, its keys."""
    return "\n\n".join("\n".join(_section(name)) for name in CHECK_TYPES)


def _section(name: str) -> Iterator[str]:
    struct = CHECK_TYPES[name]
    yield f"### `{name}`"
    yield ""
    yield f"{(struct.__doc__ or '').strip()} Without a timeout of its own: {struct.default_timeout_s:g} s."
    yield ""
    yield "| key | default | what it is |"
    yield "|---|---|---|"
    yield from map(_row, keys_of(name).values())


def _row(key: ConfigKey) -> str:
    choices = f" One of: {', '.join(f'`{choice}`' for choice in key.choices)}." if key.choices else ""
    marks = f"{' 🔒' if key.is_secret else ''}{' ✳' if key.is_ours else ''}"
    default = "required" if key.required else f"`{key.default}`" if key.default not in ("", {}) else "empty"
    description = f"{key.description[:1].upper()}{key.description[1:]}."
    return f"| `{key.name}`{marks} | {default} | {description}{choices} |"

"""How the keys of a check's configuration are read: by the struct of its type, every problem named.

`ct_ops_proto.checks` has the types. What a key is for, whether it is a secret and whether existing agents
read it stands at the struct's field (``Meta(description=…, extra=…)``), nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

SECRET = {"secret": True}
OURS = {"ours": True}
"""A key that existing agents do not read."""
MASK = "********"


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """What is wrong with one key."""

    key: str
    """Empty: the whole."""
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


class CheckConfigError(ValueError):
    """A check cannot be told this. ``str()`` names all that is wrong, ``problems`` has it by key."""

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One key of a type's configuration."""

    name: str
    value_type: Any
    required: bool
    default: Any
    description: str
    is_secret: bool
    is_ours: bool
    """Existing agents do not read it."""

    @property
    def choices(self) -> tuple[str, ...]:
        """What it may be, where that is a list."""
        inner = get_args(self.value_type)[0]
        return get_args(inner) if get_origin(inner) is not dict else ()


@cache
def keys_of_struct(struct: type[Struct]) -> Mapping[str, ConfigKey]:
    """Return the keys of a configuration, by name."""
    return {field.name: _key(field) for field in msgspec.structs.fields(struct)}


def read_values(
    keys: Mapping[str, ConfigKey], values: Mapping[str, Any], *, ignore_unknown: bool
) -> tuple[dict[str, Any], list[ConfigProblem]]:
    """Return what is right, as the keys' types have it, and all that is wrong.

    Text counts as the number or the truth that it spells: values come from a command line as well.
    """
    found, problems = _canonical(keys, values, ignore_unknown=ignore_unknown)
    read: dict[str, Any] = {}
    for key in keys.values():
        try:
            if key.name in found:
                read[key.name] = _convert(key, found[key.name])
            elif key.required:
                problems.append(ConfigProblem(key.name, f"is missing ({key.description})"))
        except _BadValueError as error:
            problems.append(ConfigProblem(key.name, str(error)))
    return read, problems


def masked(config: Struct) -> dict[str, Any]:
    """Return what is set, fit to be shown: secrets are masked, defaults left out."""
    shown: dict[str, Any] = {}
    for key in keys_of_struct(type(config)).values():
        value = getattr(config, key.name)
        if key.required or value != key.default:
            shown[key.name] = _mask(value) if key.is_secret else value
    return shown


def unknown_text(name: str, known: Iterable[str], what: str) -> str:
    """Return what to do about a name that does not exist, with the nearest one that does."""
    import difflib  # noqa: PLC0415  an agent hardly ever needs it

    known = list(known)
    nearest = difflib.get_close_matches(name.lower(), known, n=1)
    if nearest:
        return f"there is no such {what}; did you mean {nearest[0]}?"
    return f"there is no such {what}; there are: {', '.join(known)}"


def printable(text: str, longest: int = 64) -> str:
    """Return a name that somebody else wrote, fit for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:longest])


def _mask(value: Any) -> Any:
    return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK


class _BadValueError(ValueError):
    """``str()`` says what is wrong with the value of a key, without repeating it: it may be a secret."""


def _key(field: msgspec.structs.FieldInfo) -> ConfigKey:
    metas = [part for part in get_args(field.type)[1:] if isinstance(part, Meta)]
    extra = {name: value for meta in metas for name, value in (meta.extra or {}).items()}
    has_factory = field.default_factory is not msgspec.NODEFAULT
    return ConfigKey(
        name=field.name,
        value_type=field.type,
        required=field.required,
        default=field.default_factory() if has_factory else field.default,
        description=next((meta.description for meta in reversed(metas) if meta.description), ""),
        is_secret="secret" in extra,
        is_ours="ours" in extra,
    )


def _canonical(
    keys: Mapping[str, ConfigKey], values: Mapping[str, Any], *, ignore_unknown: bool
) -> tuple[dict[str, Any], list[ConfigProblem]]:
    """Return the values under the names that keys have today, and what is wrong with the names."""
    found: dict[str, Any] = {}
    problems: list[ConfigProblem] = []
    older = {_camel(name): name for name in keys}
    for name, value in values.items():
        canonical = name if name in keys else older.get(name)
        if canonical is None:
            if not ignore_unknown:
                problems.append(ConfigProblem(printable(name), unknown_text(name, keys, "key")))
        elif canonical in found:
            text = f"is given twice, also as {_camel(canonical)}; remove one"
            problems.append(ConfigProblem(canonical, text))
        else:
            found[canonical] = value
    return found, problems


def _convert(key: ConfigKey, value: Any) -> Any:
    try:
        converted = msgspec.convert(value, key.value_type, strict=False)
    except msgspec.ValidationError as error:
        raise _BadValueError(_sentence(key, str(error))) from None
    if isinstance(converted, str) and not _is_clean(converted, lines=key.name.endswith("_pem")):
        raise _BadValueError("holds a control character; remove it")
    return converted


def _sentence(key: ConfigKey, complaint: str) -> str:
    """Return msgspec's complaint in our words, without the value that it may quote."""
    if key.choices:
        return f"must be one of: {', '.join(key.choices)}"
    return re.sub(r"^Expected `([^`]*)`", r"must be `\1`", complaint).replace("`, got", "`, not")


def _is_clean(text: str, *, lines: bool) -> bool:
    return (text.replace("\n", "").replace("\r", "") if lines else text).isprintable()


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))

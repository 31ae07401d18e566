"""The configuration as it is, with the values that may be secret masked.

It is parsed and written anew: comments are left out, since nobody can tell what stands in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import tomli

from ct_ops_agent.support.masking import HIDDEN

_SECRET_NAME = re.compile(r"token|secret|passw|credential|api_?key|private|auth|cookie|header", re.IGNORECASE)
_PROGRAM = "command"
_ENVIRONMENT = re.compile(r"env(ironment)?", re.IGNORECASE)


def masked_settings(text: str) -> str:
    """Return a configuration in TOML without comments and without secrets."""
    import tomlkit  # noqa: PLC0415 - for the command line only

    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        return f"# This file is not valid TOML: {error}. Its text is left out: nobody can tell what is secret in it.\n"
    return tomlkit.dumps(_masked(document))


def secrets_in(text: str) -> Iterator[str]:
    """Yield every value that is masked in a configuration, to be masked elsewhere too."""
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    yield from _secrets(document)


def _masked(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {
            key: _masked(HIDDEN if _ENVIRONMENT.fullmatch(name) else each, key) for key, each in value.items()
        }
    if _SECRET_NAME.search(name) and value not in ("", [], False, True):
        return HIDDEN
    if isinstance(value, list):
        words = value[:1] + [HIDDEN] * len(value[1:]) if name == _PROGRAM else value
        return [_masked(each) for each in words]
    return value


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _secrets(each, name if _ENVIRONMENT.fullmatch(name) else key)
    elif isinstance(value, list):
        for each in value[1:] if name == _PROGRAM else value:
            yield from _secrets(each, name if name != _PROGRAM else "token")
    elif isinstance(value, str) and (_SECRET_NAME.search(name) or _ENVIRONMENT.fullmatch(name)):
        yield value.strip()

"""What an installation writes into a configuration that an operator has written.

Three documents meet, and each rule has its reason:

* what is **there** stays: every value, comment and line;
* what is **offered** (the file of an install bundle) fills in what is not there, and overrules nothing: a host
  that reports to one server must not change to another because somebody unpacked an archive;
* what is **demanded** on the command line goes before both, and can also take away (`tls_skip_verify = false`,
  no tags): an installer that can only add leaves an unsafe setting for ever;
* an enrolment **token** leaves the text and is handed back: it belongs into the credential store.

The text is edited, not written anew (tomlkit). Whatever a strange text does to that, the result is parsed by the
agent's own parser and must be exactly the merge of the documents, or nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import tomli

from ct_ops_agent.config.effective import spell_value
from ct_ops_agent.config.forget_token import holds_something_like_a_token
from ct_ops_agent.config.parse import parse_tags
from ct_ops_agent.config.schema import KEYS
from ct_ops_agent.errors import ConfigError, Problem
from ct_ops_agent.secret import Secret

HEAD = """\
# The configuration of the CT-Ops agent. Every key there is: ct-ops-agent config create --stdout
# Mistakes are told by: ct-ops-agent config check

"""
_TOKEN_NAMES = ("enrolment_token", "org_token")
_TAGS = ("agent", "tags")


@dataclass(frozen=True)
class Demands:
    """What the command line says; ``None`` and empty: nothing."""

    address: str | None = None
    tls_skip_verify: bool | None = None
    ca_cert_file: str | None = None
    tags: tuple[str, ...] = ()
    """Added; one of the same key is replaced."""

    without_tags: bool = False
    """Tags that are there go first."""


@dataclass(frozen=True)
class Merged:
    """What the file will say."""

    text: str
    token: Secret = field(default=Secret(""))
    """The enrolment token that stood in the file, or was offered."""

    changes: tuple[str, ...] = ()
    """Keys that get another value, each with it."""

    not_taken: tuple[str, ...] = ()
    """Keys that were offered with another value than the one that is there."""

    token_in_comment: bool = False
    """A comment still holds something like a token: only a human can tell what else it says."""


def merge(there: str | None, offered: str | None, demands: Demands) -> Merged:
    """Merge.

    Args:
        there: the text of the host's file, if it has one.
        offered: the text of another one.
        demands: what goes before both.

    Raises:
        ConfigError: a text is no TOML, or cannot be edited without touching something else.
    """
    base, offer = _parsed(there or "", "the configuration there"), _parsed(offered or "", "--config")
    start = there if there is not None else (offered if offered is not None else HEAD)
    token = _take_token(base) or _take_token(offer)
    wanted, not_taken = deepcopy(base), tuple(_fill(base, offer, ()))
    _fill_in(wanted, offer)
    _demand(wanted, demands)
    text = _edited(start, wanted)
    if tomli.loads(text) != wanted:
        raise ConfigError([Problem("-config", _unusual(base, wanted))])
    changes = tuple(_changes(base, wanted, ()))
    return Merged(text, Secret(token), changes, not_taken, holds_something_like_a_token(text))


def _parsed(text: str, which: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(
            [Problem("-config", f"{which} is not valid TOML: {error}; correct that place")]
        ) from error


def _take_token(document: dict[str, Any]) -> str:
    """Take the token out of a document; an empty one is none."""
    agent = document.get("agent")
    if not isinstance(agent, dict):
        return ""
    found = [agent.pop(name) for name in _TOKEN_NAMES if name in agent]
    return next((text.strip() for text in found if isinstance(text, str) and text.strip()), "")


def _fill(there: Mapping[str, Any], offer: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield what is offered and not taken. Values are not shown: these are files of different people."""
    for name, value in offer.items():
        if name not in there or _is_unset(there[name]) or _is_unset(value):
            continue
        if isinstance(value, dict) and isinstance(there[name], dict):
            yield from _fill(there[name], value, (*path, name))
        elif value != there[name]:
            yield ".".join((*path, name))


def _fill_in(there: dict[str, Any], offer: Mapping[str, Any]) -> None:
    for name, value in offer.items():
        if isinstance(value, dict) and isinstance(there.get(name), dict):
            _fill_in(there[name], value)
        elif name not in there or (_is_unset(there[name]) and not _is_unset(value)):
            there[name] = deepcopy(value)


def _demand(document: dict[str, Any], demands: Demands) -> None:
    asked = {
        ("ingest", "address"): demands.address,
        ("ingest", "tls_skip_verify"): demands.tls_skip_verify,
        ("ingest", "ca_cert_file"): demands.ca_cert_file,
        _TAGS: _tags(document, demands),
    }
    for (section, name), value in asked.items():
        if value is not None:
            table = document.setdefault(section, {})
            if isinstance(table, dict):
                table[name] = value


def _tags(document: Mapping[str, Any], demands: Demands) -> list[str] | None:
    if not demands.tags and not demands.without_tags:
        return None
    agent = document.get("agent")
    there = agent.get("tags", []) if isinstance(agent, dict) and not demands.without_tags else []
    try:
        tags = {tag.key: tag for tag in (*parse_tags(there), *parse_tags(demands.tags))}
    except ValueError as error:
        raise ConfigError([Problem("agent.tags", str(error))]) from error
    return [spell_value(tag) for tag in tags.values()]


def _edited(text: str, wanted: Mapping[str, Any]) -> str:
    """Return a text that says what is wanted, with as much of the old one as there can be."""
    import tomlkit  # noqa: PLC0415 - for the command line only
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415 - as above

    try:
        document = tomlkit.parse(text)
        _edit(document, wanted)
        return tomlkit.dumps(document)
    except (TOMLKitError, AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigError([Problem("-config", _unusual(tomli.loads(text), wanted))]) from error


def _edit(table: MutableMapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in [name for name in table if name not in wanted]:
        del table[name]
    for name, value in wanted.items():
        if name not in table:
            table[name] = value
        elif isinstance(value, dict) and isinstance(table[name], MutableMapping):
            _edit(table[name], value)
        elif table[name] != value:
            table[name] = value


def _unusual(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    changes = "; ".join(_changes(base, wanted, ())) or "the enrolment token removed"
    return f"the file is written in a way that cannot be edited safely; write this by hand: {changes}"


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for name, value in after.items():
        dotted = ".".join((*path, name))
        if isinstance(value, dict):
            inner = before.get(name)
            yield from _changes(inner if isinstance(inner, dict) else {}, value, (*path, name))
        elif name not in before or before[name] != value:
            yield f"{dotted} = {value!r}" if dotted in _SHOWN else dotted


_SHOWN = frozenset(key.path for key in KEYS if not key.secret)
"""Collectors' own keys may hold what is nobody's business."""


def _is_unset(value: object) -> bool:
    return value in ("", [])

"""Checks: which types there are, and what each may be told. One source of truth for both halves.

The server validates what an operator writes with it, the agent what a server sent, and the
documentation is printed from it. A check's interval, timeout and name are not here: they are no part
of what its type is told.

Rules kept here:

* Keys are written in snake_case, as existing agents read them. The spellings that existing servers are
  known to have stored (``filePath``, ``timeoutSeconds``, …) are accepted and never written.
* *Every* problem is named, by key. An unknown key is refused with the nearest one that exists.
* Everything is bounded, and text has no control characters: it ends up in terminals and in requests.
* Secrets (a key store's password, the values of headers) are in no ``repr`` and not in `masked`.
* No regular expressions: one that backtracks would hold the agent's whole interpreter, so the body of an
  answer is only searched for text.

What is left to others: how a check is done (the agent), who may define one (the server).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ct_ops_proto.check_keys import (
    MASK,
    CheckConfigError,
    ConfigKey,
    ConfigProblem,
    keys_of_struct,
    masked,
    read_values,
    unknown_text,
)
from ct_ops_proto.check_types import (
    CHECK_TYPES,
    AnyCheckConfig,
    CertFileCheck,
    CertificateCheck,
    CheckConfig,
    HttpCheck,
    PortCheck,
    ProcessCheck,
)

__all__ = [
    "CHECK_TYPES",
    "MASK",
    "AnyCheckConfig",
    "CertFileCheck",
    "CertificateCheck",
    "CheckConfig",
    "CheckConfigError",
    "ConfigKey",
    "ConfigProblem",
    "HttpCheck",
    "PortCheck",
    "ProcessCheck",
    "check_config",
    "config_json",
    "has_secrets",
    "ignored_by_existing_agents",
    "keys_of",
    "masked",
    "parse_check_config",
]

MAX_CONFIG_BYTES = 64 * 1024


def parse_check_config(
    check_type: str, config_json: str | bytes, *, ignore_unknown: bool = False
) -> AnyCheckConfig:
    """Return the configuration that a JSON object holds.

    Args:
        check_type: a key of `CHECK_TYPES`.
        config_json: what an operator wrote or a server sent.
        ignore_unknown: pass over unknown keys, as an agent does whose server may be newer.

    Raises:
        CheckConfigError: with everything that is wrong.
    """
    if len(config_json) > MAX_CONFIG_BYTES:
        raise CheckConfigError(
            [ConfigProblem("", f"the configuration is longer than {MAX_CONFIG_BYTES} bytes")]
        )
    try:
        values = msgspec.json.decode(config_json or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CheckConfigError([ConfigProblem("", f"the configuration is no JSON object: {error}")]) from None
    return check_config(check_type, values, ignore_unknown=ignore_unknown)


def check_config(
    check_type: str, values: Mapping[str, Any], *, ignore_unknown: bool = False
) -> AnyCheckConfig:
    """Return the configuration that these values make; text counts as the number or truth it spells.

    Raises:
        CheckConfigError: with everything that is wrong.
    """
    struct = CHECK_TYPES.get(check_type)
    if struct is None:
        raise CheckConfigError(
            [ConfigProblem("type", unknown_text(check_type, CHECK_TYPES, "type of check"))]
        )
    read, problems = read_values(keys_of(check_type), values, ignore_unknown=ignore_unknown)
    problems += struct.problems(read)
    if problems:
        raise CheckConfigError(problems)
    return struct(**read)


def config_json(config: CheckConfig) -> str:
    """Return the one text of a configuration, with its secrets: what is stored and sent.

    It changes only when the configuration does, because agents restart a check whose text changes.
    """
    values = {
        key.name: getattr(config, key.name)
        for key in keys_of_struct(type(config)).values()
        if not key.is_ours or getattr(config, key.name) != key.default
    }
    return msgspec.json.encode(values).decode()


def has_secrets(config: CheckConfig) -> bool:
    """Return whether something in the configuration must not be shown."""
    return any(
        key.is_secret and getattr(config, key.name) != key.default
        for key in keys_of_struct(type(config)).values()
    )


def keys_of(check_type: str) -> Mapping[str, ConfigKey]:
    """Return the keys of a type of `CHECK_TYPES`, by name."""
    return keys_of_struct(CHECK_TYPES[check_type])


def ignored_by_existing_agents(config: CheckConfig) -> tuple[str, ...]:
    """Return the keys that are set and that existing agents do not read."""
    return tuple(
        key.name
        for key in keys_of_struct(type(config)).values()
        if key.is_ours and getattr(config, key.name) != key.default
    )

"""The types of checks that this agent does: from what a server sent to something that can be run.

A type is a function of its configuration and an attempt, in a module of its own, which is imported when
the first check of the type runs: an agent without certificate checks does not load cryptography.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ct_ops_agent.checks.attempt import Attempt
from ct_ops_agent.checks.verdict import Verdict, failed, undone
from ct_ops_agent.work import CheckDefinition
from ct_ops_proto.checks import AnyCheckConfig, CheckConfigError, parse_check_config

LONGEST_TIMEOUT_S = 300.0
"""A slot is never taken for longer, whatever was asked for."""

Probe: TypeAlias = Callable[[Attempt], Verdict]

_NOT_OURS = {"service_account", "ssh_key_scan"}
"""Types of existing agents that are inventories, not checks."""


class UnusableCheckError(Exception):
    """This agent cannot do that check; ``str()`` is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A check that can be run."""

    probe: Probe
    timeout_s: float
    overdue: Verdict
    """The verdict when the probe does not return in time."""


def prepare(definition: CheckDefinition) -> Prepared:
    """Return what a definition asks for.

    Raises:
        UnusableCheckError: its type or its configuration is nothing this agent can work with.
    """
    probe = _PROBES.get(definition.check_type)
    if probe is None:
        raise UnusableCheckError(_unknown(definition.check_type))
    try:
        # A newer server may know more keys than we do.
        config = parse_check_config(definition.check_type, definition.config_json, ignore_unknown=True)
    except CheckConfigError as error:
        raise UnusableCheckError(f"the configuration of the check cannot work: {error}") from error
    seconds = timeout_of(definition, config)
    return Prepared(
        probe=lambda attempt: probe(config, attempt),
        timeout_s=seconds,
        overdue=_OVERDUE.get(definition.check_type, undone)(f"no answer within {seconds:g} s"),
    )


def timeout_of(definition: CheckDefinition, config: AnyCheckConfig) -> float:
    """Return how long one run may take: as the check says, else its configuration, else its type."""
    of_config = float(getattr(config, "timeout_seconds", 0.0))
    seconds = definition.timeout_s or of_config or config.default_timeout_s
    return min(seconds, LONGEST_TIMEOUT_S) if seconds > 0 else config.default_timeout_s


def _unknown(check_type: str) -> str:
    shown = repr(check_type[:64])
    if check_type in _NOT_OURS:
        return f"checks of type {shown} are not supported by this agent; remove the check"
    return f"checks of type {shown} are not supported by this agent; it knows {', '.join(_PROBES)}"


def _port(config: Any, attempt: Attempt) -> Verdict:
    from ct_ops_agent.checks.port import probe  # noqa: PLC0415 - loaded by those who use it

    return probe(config, attempt)


def _process(config: Any, attempt: Attempt) -> Verdict:
    from ct_ops_agent.checks.process import probe  # noqa: PLC0415 - loaded by those who use it

    return probe(config, attempt)


def _http(config: Any, attempt: Attempt) -> Verdict:
    from ct_ops_agent.checks.http_request import probe  # noqa: PLC0415 - loads http.client and email

    return probe(config, attempt)


def _certificate(config: Any, attempt: Attempt) -> Verdict:
    from ct_ops_agent.checks.certificate import probe  # noqa: PLC0415 - loads cryptography

    return probe(config, attempt)


def _cert_file(config: Any, attempt: Attempt) -> Verdict:
    from ct_ops_agent.checks.cert_file import probe  # noqa: PLC0415 - loads cryptography

    return probe(config, attempt)


_PROBES: Mapping[str, Callable[[Any, Attempt], Verdict]] = {
    "port": _port,
    "process": _process,
    "http": _http,
    "certificate": _certificate,
    "cert_file": _cert_file,
}

_OVERDUE: Mapping[str, Callable[[str], Verdict]] = {"port": failed, "http": failed}
"""There no answer is what was looked for; elsewhere it means that nothing is known."""

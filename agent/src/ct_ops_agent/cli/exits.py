"""Exit codes, and the one place where errors become them.

0   done; ``status``: connected, and acknowledged lately
1   failed: the data directory is in use or not safe, …
2   usage: the command line is wrong
3   ``status``: no agent runs here
4   ``status``: an agent runs and is not connected
69  the server cannot be reached
77  refused, or waiting for an operator's approval
78  the configuration cannot work; every problem is listed
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import click

from ct_ops_agent.errors import (
    AgentError,
    ApprovalPendingError,
    ConfigError,
    CredentialRejectedError,
    EnrolmentRefusedError,
    UnreachableError,
)

EXIT_CODES = """\b
Exit codes:
  0   stopped on request; with --once: the heartbeat was acknowledged
  1   failed, for example because the data directory is in use
  2   wrong usage
  69  --once only: the server cannot be reached
  77  --once only: refused, or waiting for an operator's approval
  78  the configuration cannot work; every problem is listed
"""
"""Those of `run`, as its help prints them."""


class Exit(IntEnum):
    """The process's exit codes (69, 77 and 78 as in sysexits.h)."""

    FAILED = 1
    UNREACHABLE = 69
    REFUSED = 77
    CONFIGURATION = 78


@contextmanager
def errors_as_exits() -> Iterator[None]:
    """Turn the agent's own errors into a sentence and an exit code; others stay what they are."""
    try:
        yield
    except AgentError as error:
        fail(error)


def exit_code_for(error: AgentError) -> Exit:
    """Return what the process ends with after an error."""
    match error:
        case ConfigError():
            return Exit.CONFIGURATION
        case UnreachableError():
            return Exit.UNREACHABLE
        case EnrolmentRefusedError() | CredentialRejectedError() | ApprovalPendingError():
            return Exit.REFUSED
        case _:
            return Exit.FAILED


def fail(error: AgentError) -> NoReturn:
    """Say what is wrong and end the process."""
    if isinstance(error, ConfigError):
        click.echo("the configuration cannot work:", err=True)
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
    else:
        click.echo(f"error: {error}", err=True)
    sys.exit(exit_code_for(error))

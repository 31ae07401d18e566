"""Exit codes, and the one place where errors become them.

0   done
1   failed: not found, does not fit the state, …
2   usage: the command line, or a value in it, is wrong
69  unreachable: no server, no database
77  refused: not permitted for this user
78  configuration: the settings have problems
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import NoReturn

import click


class Exit(IntEnum):
    """The process's exit codes (69, 77 and 78 as in sysexits.h)."""

    FAILED = 1
    USAGE = 2
    UNREACHABLE = 69
    REFUSED = 77
    CONFIGURATION = 78


class Stop(click.ClickException):
    """Ends the command with a sentence on standard error."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code: int = int(code)  # type: ignore[misc]  # click declares it on the class


@contextmanager
def errors_as_exits() -> Iterator[None]:
    """Turn the errors that an operator can do something about into exits; others stay what they are."""
    try:
        yield
    except Exception as error:
        if (code := _code_of(error)) is None:
            raise
        raise Stop(code, str(error)) from error


def _code_of(error: Exception) -> Exit | None:
    """Return how an error ends the command; the errors are imported once there is one."""
    from ct_ops_server.authority.errors import AuthorityError  # noqa: PLC0415
    from ct_ops_server.config.problems import ConfigError  # noqa: PLC0415
    from ct_ops_server.fleet.ports import StoreError  # noqa: PLC0415
    from ct_ops_server.ownership import DataDirBusyError, DataDirForbiddenError  # noqa: PLC0415
    from ct_ops_server.store.errors import DatabaseUrlError, SchemaNewerError  # noqa: PLC0415

    match error:
        case ConfigError() | DatabaseUrlError() | AuthorityError() | SchemaNewerError():
            return Exit.CONFIGURATION
        case StoreError() | DataDirBusyError():
            return Exit.UNREACHABLE
        case DataDirForbiddenError():
            return Exit.REFUSED
        case _:
            return None


@contextmanager
def tidy_when_stopped() -> Iterator[None]:
    """Let a command that is told to stop (SIGTERM, SIGHUP) take away what it made, which it would not do otherwise."""
    before = {each: signal.signal(each, _stop) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)

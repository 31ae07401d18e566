"""Where the enrolment token of a command comes from, when the daemon's configuration is not what is asked for.

Never from the arguments without a warning, and out of the environment at once: the programs that an installation
runs would inherit it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import TextIO

import click

from ct_ops_agent.errors import ConfigError, Problem
from ct_ops_agent.secret import Secret

VARIABLES = ("CT_OPS_ENROLMENT_TOKEN", "CT_OPS_ORG_TOKEN")
_LARGEST_BYTES = 16 * 1024


def take_token(
    flag: str | None, file: Path | None, environment: MutableMapping[str, str], stdin: TextIO
) -> Secret:
    """Return the token, empty when nothing gives one.

    Args:
        flag: of ``-token``; ``-`` reads standard input.
        file: of ``-token-file``.
        environment: the token is taken out of it.
        stdin: for ``-``.

    Raises:
        ConfigError: the file cannot be read.
    """
    inherited = [environment.pop(name, "") for name in VARIABLES]
    if file is not None:
        return Secret(_read(file))
    if flag == "-":
        return Secret(stdin.read(_LARGEST_BYTES).strip())
    if flag is not None:
        click.echo(
            "warning: a token given as -token VALUE can be seen by every user of this host (ps); "
            "use -token-file PATH, -token - or CT_OPS_ENROLMENT_TOKEN",
            err=True,
        )
        return Secret(flag.strip())
    return Secret(next((text.strip() for text in inherited if text.strip()), ""))


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as opened:
            return opened.read(_LARGEST_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            [Problem("-token-file", f"cannot read {path}: {error}; correct the path or its permissions")]
        ) from error

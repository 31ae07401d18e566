"""What the commands about queries, tasks and packages share: how the admin API is asked.

``cli.admin`` is imported when something is asked: it would make ``--help`` slow.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import click

from ct_ops_server.cli.exits import errors_as_exits
from ct_ops_server.config.duration import parse_duration


def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Return the answer to a request of the admin API, or end the command."""
    from ct_ops_server.cli.admin import ask as ask_server  # noqa: PLC0415  see above

    with errors_as_exits():
        return ask_server(method, path, body)


def signed(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the name of whoever says it."""
    from ct_ops_server.cli.admin import actor  # noqa: PLC0415  see above

    return {"actor": actor(), **body}


def path_of(*parts: str, **query: object) -> str:
    """Return ``/v1/`` and the parts, quoted; what of the query is None is left out."""
    path = "/v1/" + "/".join(quote(part, safe="") for part in parts)
    wanted = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(wanted)}" if wanted else path


def seconds(text: str, option: str) -> float:
    """Return a duration in seconds.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}", param_hint=option) from error

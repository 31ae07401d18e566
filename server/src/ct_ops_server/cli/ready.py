"""``ct-ops-server ready``: ask the server of this host whether it serves, as /readyz says it.

For whoever has no HTTP client at hand: the installer after an upgrade, a health check, a script. Unlike other
commands it never stands in for a server that does not run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import click

from ct_ops_server.cli.asking import seconds
from ct_ops_server.cli.exits import Exit, Stop, errors_as_exits
from ct_ops_server.config.load import load_settings

_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, not by us
_TIMEOUT_S = 5.0
_PAUSE_S = 0.25


@click.command()
@click.option("--wait", "patience", default="0s", show_default=True, help="How long to go on asking.")
def ready(*, patience: str) -> None:
    """Tell whether the server of this host serves: its database answers and has this version's schema.

    Exit codes: 0 it does, 69 it does not, or nobody answers.
    """
    patience_s = seconds(patience, "--wait")
    with errors_as_exits():
        settings = load_settings(os.environ)
    host = _ANYWHERE.get(settings.http_host, settings.http_host)
    wrong = asked_until_ready(
        lambda: what_is_wrong(host, settings.http_port), patience_s, now_s=time.monotonic, pause=time.sleep
    )
    if wrong:
        raise Stop(Exit.UNREACHABLE, wrong)
    click.echo("ready")


def asked_until_ready(
    ask: Callable[[], str], patience_s: float, *, now_s: Callable[[], float], pause: Callable[[float], None]
) -> str:
    """Ask until nothing is wrong or patience ends; return what was wrong at last."""
    until = now_s() + patience_s
    while (wrong := ask()) and now_s() < until:
        pause(_PAUSE_S)
    return wrong


def what_is_wrong(host: str, port: int) -> str:
    """Ask once; return a sentence, empty when the server is ready."""
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415 - keeps others light

    connection = HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read(65_536)
    except (OSError, HTTPException) as error:
        return f"no server answers at {host} port {port}: {error}"
    finally:
        connection.close()
    return "" if answer.status == 200 else f"the server is not ready: {_reasons(said)}"


def _reasons(said: bytes) -> str:
    try:
        reasons = json.loads(said)["problems"]
        return "; ".join(f"{name}: {why}" for name, why in reasons.items())
    except (ValueError, AttributeError, KeyError, TypeError):
        return said.decode(errors="replace")[:200]

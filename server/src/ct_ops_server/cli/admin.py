"""Asking the server: over ``admin.sock`` when one runs, else by opening the installation here.

Both ways run the same app with the same checks, so a command cannot tell them apart, and neither can
whoever reads its output.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from ct_ops_server.cli.exits import Exit, Stop
from ct_ops_server.config.load import load_settings
from ct_ops_server.config.schema import Settings
from ct_ops_server.ownership import ADMIN_SOCKET, become_owner, owned

_TIMEOUT_S = 30.0
_PATIENCE_S = 10.0
_HOST = "http://ct-ops"
_CODES = {404: Exit.FAILED, 409: Exit.FAILED, 422: Exit.USAGE, 503: Exit.UNREACHABLE}


def _nobody_to_hint(_topic: str) -> None:
    """Without a server there are no connections here; other processes hear of it from the database."""


def actor() -> str:
    """Return who is acting: the user, and who they were before sudo."""
    user, before = _user_name(os.getuid()), os.environ.get("SUDO_USER")
    return f"{user} (sudo by {before})" if before and before != user else user


def _user_name(uid: int) -> str:
    """Return a user's name: the system's, not the environment's, which says what one likes."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def ask(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Return the answer to a request of the admin API.

    Raises:
        Stop: it was refused, or nobody could be asked.
        ConfigError, AuthorityError, StoreError, OwnershipError: the installation cannot be opened.
    """
    return ask_for_bytes(method, path, body).json()


def ask_for_bytes(method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
    """Return the whole answer to a request that is answered with something else than JSON.

    Raises:
        As ``ask``.
    """
    settings = load_settings(os.environ)
    response = _ask_running(settings.data_dir / ADMIN_SOCKET, method, path, body)
    if response is None:
        become_owner(settings.data_dir)
        with owned(settings.data_dir, patience_s=_PATIENCE_S):
            response = asyncio.run(_ask_here(settings, method, path, body))
    if response.is_success:
        return response
    raise _stop(response)


def _ask_running(
    socket: Path, method: str, path: str, body: Mapping[str, Any] | None
) -> httpx.Response | None:
    """Return a running server's answer; None when there is none."""
    if _is_absent(socket):
        return None
    # verify=False: no TLS is spoken on a UNIX socket, so no roots need be loaded for it.
    transport = httpx.HTTPTransport(uds=str(socket), verify=False)
    try:
        with httpx.Client(transport=transport, timeout=_TIMEOUT_S) as client:
            return client.request(method, f"{_HOST}{path}", json=body)
    except httpx.ConnectError as error:
        if isinstance(_os_error(error), PermissionError):
            raise Stop(
                Exit.REFUSED, f"{socket} may only be opened by root and the server's user: try sudo"
            ) from error
        return None
    except httpx.TransportError as error:
        raise Stop(Exit.UNREACHABLE, f"the server did not answer on {socket}: {error}") from error


def _is_absent(socket: Path) -> bool:
    """Return whether there is certainly no socket: then nobody need be dialled."""
    try:
        socket.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


async def _ask_here(
    settings: Settings, method: str, path: str, body: Mapping[str, Any] | None
) -> httpx.Response:
    # Half a second, for nothing where a server runs.
    from ct_ops_server.core import open_core  # noqa: PLC0415
    from ct_ops_server.desks import admin_app  # noqa: PLC0415

    async with open_core(settings) as core:
        transport = httpx.ASGITransport(admin_app(core, hint=_nobody_to_hint))
        async with httpx.AsyncClient(transport=transport, timeout=_TIMEOUT_S) as client:
            response = await client.request(method, f"{_HOST}{path}", json=body)
        if method != "GET":
            await core.audit_follower().close()
        return response


def _os_error(error: BaseException) -> OSError | None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _stop(response: httpx.Response) -> Stop:
    try:
        error = response.json()["error"]
        code, message = error["code"], error["message"]
    except (ValueError, KeyError, TypeError):
        code, message = "", f"the server answered {response.status_code}; its log says why"
    if code == "no_artefact":
        return Stop(Exit.FAILED, message)
    return Stop(_CODES.get(response.status_code, Exit.FAILED), message)

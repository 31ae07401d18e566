"""What hosts download: the agent, and which version is the newest. On 8080 and on the agent port.

* ``GET /api/agent/download?os=&arch=[&format=tar.gz|tar.xz]``  without ``format``: one program, verified,
  or 503; an existing agent puts whatever a 200 carries in its own place (rule 23)
* ``GET /api/agent/latest[?os=&arch=]``                         from the shelf, never from the internet

Streamed, with Range, ETag, HEAD and the checksum in a header. Errors are ``{"error": "…"}``, as existing
servers answer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ct_ops_server.edge.rate_limits import RateLimit
from ct_ops_server.releases.artefact import ARCHITECTURES, SYSTEMS, Form
from ct_ops_server.releases.shelf import Found, Shelf

TOO_MANY = "Too many requests — please wait before trying again."
_FORMS = {"": Form.PROGRAM, "tar.gz": Form.TAR_GZ, "tar.xz": Form.TAR_XZ}


@dataclass(frozen=True)
class DownloadLimits:
    """Requests a minute and address."""

    download: int = 20
    latest: int = 10


class RequestError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


class Downloads:
    """The routes of one app."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        address_of: Callable[[Request], str],
        now_s: Callable[[], float],
        limits: DownloadLimits | None = None,
    ) -> None:
        """Prepare.

        Args:
            shelf: what there is.
            address_of: whom a request is counted for.
            now_s: monotonic seconds.
            limits: how often an address may ask.
        """
        limits = limits or DownloadLimits()
        self._shelf = shelf
        self._address_of = address_of
        self._download = RateLimit(limits.download, now_s=now_s)
        self._latest = RateLimit(limits.latest, now_s=now_s)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/agent/download", errors_as_json(self.download), methods=["GET", "HEAD"]),
            Route("/api/agent/latest", errors_as_json(self.latest), methods=["GET", "HEAD"]),
        ]

    async def download(self, request: Request) -> Response:
        """Hand out the newest artefact for a platform."""
        self._count(self._download, request)
        system, architecture = _platform(request)
        form = _form(request)
        found = await asyncio.to_thread(self._shelf.find, system=system, architecture=architecture, form=form)
        if found is None:
            raise RequestError(503, nothing_for(system, architecture, form))
        return FileResponse(
            found.path,
            media_type="application/octet-stream",
            filename=offered_name(found),
            headers=headers_of(found),
        )

    async def latest(self, request: Request) -> Response:
        """Say which version is the newest on the shelf, for any platform or for one."""
        self._count(self._latest, request)
        wanted = _platform(request) if {"os", "arch"} & request.query_params.keys() else None
        all_of_them = await asyncio.to_thread(self._shelf.everything)
        found = [
            one
            for one in all_of_them
            if one.artefact.version is not None
            and wanted in {None, (one.artefact.system, one.artefact.architecture)}
        ]
        best = max(found, key=lambda one: one.artefact.order, default=None)
        if best is None:
            raise RequestError(404, "No agent release is on this server's shelf.")
        published = datetime.fromtimestamp(best.modified_ns / 1e9, UTC)
        return JSONResponse(
            {
                "version": best.artefact.version,
                "tag": f"agent/v{best.artefact.version}",
                "published_at": published.isoformat(timespec="seconds"),
                "release_url": None,
            }
        )

    def _count(self, limit: RateLimit, request: Request) -> None:
        if wait_s := limit.wait_s(self._address_of(request)):
            raise RequestError(429, TOO_MANY, {"Retry-After": str(math.ceil(wait_s))})


def headers_of(found: Found) -> dict[str, str]:
    """Return what lets a client verify, resume and cache a download."""
    headers = {
        "ETag": f'"{found.sha256}"',
        "X-Checksum-Sha256": found.sha256,
        "Last-Modified": format_datetime(datetime.fromtimestamp(found.modified_ns / 1e9, UTC), usegmt=True),
        "Cache-Control": "no-cache",
    }
    if found.artefact.version is not None:
        headers["X-Agent-Version"] = found.artefact.version
    return headers


def offered_name(found: Found) -> str:
    """Return the name for a program as existing servers offer it, an archive's own name."""
    artefact = found.artefact
    if artefact.form is not Form.PROGRAM:
        return artefact.file_name
    ending = ".exe" if artefact.system == "windows" else ""
    return f"ct-ops-agent-{artefact.system}-{artefact.architecture}{ending}"


def nothing_for(system: str, architecture: str, form: Form) -> str:
    """Return what to do when there is no such artefact."""
    what = "program" if form is Form.PROGRAM else f"{form} archive"
    return (
        f"No agent {what} for {system}/{architecture} is on this server's shelf. "
        "Put one there with `ct-ops-server release add FILE`."
    )


def _platform(request: Request) -> tuple[str, str]:
    system, architecture = request.query_params.get("os", ""), request.query_params.get("arch", "")
    if system not in SYSTEMS:
        raise RequestError(400, f"os must be one of: {', '.join(SYSTEMS)}")
    if architecture not in ARCHITECTURES:
        raise RequestError(400, f"arch must be one of: {', '.join(ARCHITECTURES)}")
    return system, architecture


def _form(request: Request) -> Form:
    text = request.query_params.get("format", "")
    if text not in _FORMS:
        raise RequestError(400, "format must be one of: tar.gz, tar.xz")
    return _FORMS[text]


def errors_as_json(handler: Callable[[Request], object]) -> Callable[[Request], object]:
    """Return a handler whose request errors are answered as existing servers answer them."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)  # type: ignore[misc,no-any-return] # Starlette's handlers are untyped
        except RequestError as error:
            return JSONResponse({"error": str(error)}, status_code=error.status, headers=error.headers)

    return handle

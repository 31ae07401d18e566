"""``GET /api/agent/install[?ingest=host:port][&skip_verify=true]``: the script of the one-line install.

On 8080 and on the agent port. What the script names comes from the configuration, never from the request's Host
header; what comes from the request is validated, and quoted like everything else. A token in the URL is refused:
it would stay in the logs of every proxy on the way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ct_ops_server.edge.downloads import TOO_MANY, RequestError, errors_as_json
from ct_ops_server.edge.rate_limits import RateLimit
from ct_ops_server.releases.install_script import (
    INSTALL_PATH,
    AgentAddressError,
    InstallSource,
    agent_address,
    install_script,
)
from ct_ops_server.releases.shelf import Shelf

INSTALLS_A_MINUTE = 30
_TOKEN_IN_URL = (
    "A token never goes into a URL, where logs keep it: revoke this one, and run the line that "
    "`ct-ops-server token create` prints."
)


class InstallRoute:
    """The route of one app."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        source: Callable[[], InstallSource | None],
        release_key: Callable[[], str],
        address_of: Callable[[Request], str],
        now_s: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            shelf: what can be installed.
            source: where this server is, from outside; asked each time.
            release_key: its public half as PEM, empty when there is none; asked each time, in a thread.
            address_of: whom a request is counted for.
            now_s: monotonic seconds.
        """
        self._shelf = shelf
        self._source = source
        self._release_key = release_key
        self._address_of = address_of
        self._limit = RateLimit(INSTALLS_A_MINUTE, now_s=now_s)

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(INSTALL_PATH, errors_as_json(self.install), methods=["GET", "HEAD"])]

    async def install(self, request: Request) -> Response:
        """Hand out the script; where the shelf has nothing for a host, the script says so there."""
        if wait_s := self._limit.wait_s(self._address_of(request)):
            raise RequestError(429, TOO_MANY, {"Retry-After": str(math.ceil(wait_s))})
        address, skip_verify = _asked(request)
        script = await asyncio.to_thread(self._script, address, skip_verify=skip_verify)
        return PlainTextResponse(script, headers={"Cache-Control": "no-store"})

    def _script(self, address: str | None, *, skip_verify: bool) -> str:
        source = self._source()
        if source is None:
            raise RequestError(503, "This server does not know its address yet: set INGEST_PUBLIC_ADDRESS.")
        return install_script(
            source,
            self._shelf.everything(),
            release_key=self._release_key(),
            address=address,
            skip_verify=skip_verify,
        )


def _asked(request: Request) -> tuple[str | None, bool]:
    query = request.query_params
    if "token" in query:
        raise RequestError(400, _TOKEN_IN_URL)
    try:
        address = agent_address(query["ingest"]) if "ingest" in query else None
    except AgentAddressError as error:
        raise RequestError(400, str(error)) from error
    return address, query.get("skip_verify") == "true"

"""http/1.1 on the agent port: a small app of its own, for agents and installers (rule 8).

No console, no proxy headers, nothing that depends on ``Host``. What is here may be read by anybody:

* ``/.well-known/ct-ops/ca.pem``  the authority that a token's pin names
* ``/.well-known/jwks.json``      the keys that agent tokens are signed with
* ``/api/agent/…``                what hosts download (`downloads`, `install_route`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

_SHORT_CACHE = {"Cache-Control": "public, max-age=300"}


def jwks_route(jwks: Callable[[], Mapping[str, Any]]) -> Route:
    """Return the JWKS as a route (RFC 7517); it is asked each time, since keys come and go."""

    async def get(_: Request) -> Response:
        return JSONResponse(jwks(), headers=_SHORT_CACHE)

    return Route("/.well-known/jwks.json", get)


def build_public_app(
    *, ca_pem: Callable[[], str], jwks: Callable[[], Mapping[str, Any]], for_hosts: Sequence[Route]
) -> Starlette:
    """Return the app; ``ca_pem`` and ``jwks`` are asked each time."""

    async def ca(_: Request) -> Response:
        return Response(ca_pem(), media_type="application/x-pem-file", headers=_SHORT_CACHE)

    return Starlette(
        routes=[
            Route("/.well-known/ct-ops/ca.pem", ca),
            jwks_route(jwks),
            *for_hosts,
        ],
        exception_handlers={404: _not_found},
    )


async def _not_found(_: Request, __: Exception) -> Response:
    return PlainTextResponse("not found\n", status_code=404)

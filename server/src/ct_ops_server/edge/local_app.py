"""The HTTP app on 127.0.0.1:8080: for operators' monitoring, and for a proxy in front.

* ``/healthz``  ``ok`` while the process answers; looks at nothing else
* ``/readyz``   200 when the database answers and its migrations are ours, 503 with the reason otherwise
* ``/metrics``  Prometheus
* ``/.well-known/jwks.json``
* ``/api/agent/…``  what hosts download (`downloads`, `install_route`)
* ``/api/admin/hosts/bulk-delete``  for load tests (`bulk_delete`); off unless a key is set
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ct_ops_server.edge.public_app import jwks_route
from ct_ops_server.edge.scraping import of_all_workers

Readiness = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns what is not ready, by name, each with its reason; empty when all is well."""


def build_local_app(
    *,
    jwks: Callable[[], Mapping[str, Any]],
    registry: CollectorRegistry,
    readiness: Readiness,
    for_hosts: Sequence[Route],
) -> Starlette:
    """Return the app."""
    scraped = of_all_workers(registry)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        faults = await readiness()
        body = {"ready": not faults, "problems": dict(faults)}
        return JSONResponse(body, status_code=503 if faults else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(scraped), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            jwks_route(jwks),
            *for_hosts,
        ]
    )

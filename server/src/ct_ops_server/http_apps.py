"""The two HTTP apps of a server, on their sockets: the local one for monitoring, the public one behind the front door."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.routing import Route

from ct_ops_server.config.schema import Settings
from ct_ops_server.core import Core
from ct_ops_server.edge.bulk_delete import BulkDelete
from ct_ops_server.edge.callers import Callers
from ct_ops_server.edge.client_address import client_behind_proxy, client_of, protocol_named_by
from ct_ops_server.edge.downloads import Downloads
from ct_ops_server.edge.front_door import Upstreams
from ct_ops_server.edge.http_requests import ObservedApp, RefusalLines
from ct_ops_server.edge.http_server import HttpServer, unix_socket
from ct_ops_server.edge.install_route import InstallRoute
from ct_ops_server.edge.local_app import build_local_app
from ct_ops_server.edge.public_app import build_public_app
from ct_ops_server.fleet.load_test_hosts import LoadTestHosts
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.releases.release_key import release_key_text


@asynccontextmanager
async def http_apps(
    core: Core,
    callers: Callers,
    upstreams: Upstreams,
    registry: CollectorRegistry,
    *,
    hint: Callable[[str], None],
    listening: socket.socket,
    answered: Callable[[str, int], None],
) -> AsyncIterator[int]:
    """Serve both apps, the local one on ``listening``; the value is the port of the local one. ``hint`` tells the push bus of what was decided, ``answered`` is told of every answer: its app and status."""
    settings = core.settings
    behind_proxy = client_behind_proxy if settings.trust_proxy_headers else client_of
    local = build_local_app(
        jwks=core.jwks,
        registry=registry,
        readiness=lambda: readiness_of(core),
        for_hosts=[*_for_hosts(core, behind_proxy), *_for_load_tests(core, behind_proxy, hint)],
    )
    public = build_public_app(
        ca_pem=lambda: core.keys.tls.current.published_pem,
        jwks=core.jwks,
        for_hosts=_for_hosts(core, client_of),
    )
    lines = RefusalLines(asyncio.get_running_loop().time)
    servers = (
        HttpServer(ObservedApp(local, name="local", lines=lines, answered=answered), listening),
        HttpServer(
            ObservedApp(public, name="agent port", lines=lines, answered=answered),
            unix_socket(upstreams.http),
            protocol=protocol_named_by(callers),
        ),
    )
    port = int(listening.getsockname()[1])
    for server in servers:
        server.start()
    try:
        yield port
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


def http_socket(settings: Settings) -> socket.socket:
    """Listen for the local app.

    Raises:
        OSError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    return socket.create_server((settings.http_host, settings.http_port), family=family)


def _for_hosts(core: Core, address_of: Callable[[Request], str]) -> list[Route]:
    """Return what one app hands out to hosts, with limits of its own."""
    monotonic_s = asyncio.get_running_loop().time
    install = InstallRoute(
        core.shelf,
        source=core.whereabouts.install_source,
        release_key=lambda: release_key_text(core.settings.data_dir),
        address_of=address_of,
        now_s=monotonic_s,
    )
    downloads = Downloads(core.shelf, address_of=address_of, now_s=monotonic_s)
    return [*downloads.routes(), *install.routes()]


def _for_load_tests(
    core: Core, address_of: Callable[[Request], str], hint: Callable[[str], None]
) -> list[Route]:
    hosts = LoadTestHosts(core.store.agents, hint=hint)
    bulk_delete = BulkDelete(
        hosts.delete,
        key=core.settings.loadtest_admin_key,
        address_of=address_of,
        now_s=asyncio.get_running_loop().time,
    )
    return bulk_delete.routes()


async def readiness_of(core: Core) -> Mapping[str, str]:
    """Return what is not ready: ``database``, ``migrations``."""
    try:
        await core.store.database.ping()
        if not await core.store.database.migrations_current():
            return {"migrations": "the database's schema is not the one of this version"}
    except StoreError as error:
        return {"database": str(error)}
    return {}

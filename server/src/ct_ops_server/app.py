"""The composition root of a running server: builds every part, starts them, stops them in order.

Start: data directory, keys, database and migrations, gRPC and HTTP servers on their sockets, and the
front door last, when everything behind it answers. Stop: the other way round, so that nobody is let in
who would not be served, frames under way are committed, and streams hear a GOAWAY.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from ct_ops_server.authority.server_certificate import ServerTls
from ct_ops_server.config.schema import Settings
from ct_ops_server.core import Core, open_core, utc_now
from ct_ops_server.edge.budget import Budget
from ct_ops_server.edge.callers import Callers
from ct_ops_server.edge.certificates import CertificateFollower
from ct_ops_server.edge.client_address import client_behind_proxy, client_of, protocol_named_by
from ct_ops_server.edge.delivery_metrics import DeliveryMetrics
from ct_ops_server.edge.downloads import Downloads
from ct_ops_server.edge.front_door import FrontDoor, Upstreams
from ct_ops_server.edge.grpc_servers import start_agents, start_lobby
from ct_ops_server.edge.held_refusals import HeldRefusals
from ct_ops_server.edge.http_server import HttpServer, PeerChecked, unix_socket
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.listener import connection_ceiling
from ct_ops_server.edge.local_app import build_local_app
from ct_ops_server.edge.metrics import EdgeMetrics, StoreMetrics
from ct_ops_server.edge.public_app import build_public_app
from ct_ops_server.edge.rpc import ServiceParts
from ct_ops_server.edge.tls import TlsContexts, build_contexts
from ct_ops_server.enrolment.challenges import Challenges
from ct_ops_server.enrolment.refusal_log import RefusalLog
from ct_ops_server.fleet import check_retention, endings
from ct_ops_server.fleet.bus import Bus
from ct_ops_server.fleet.check_delivery import CheckProvider
from ct_ops_server.fleet.check_retention import ResultPruning
from ct_ops_server.fleet.dispatch import Dispatch, Provider
from ct_ops_server.fleet.endings import EndingWatch
from ct_ops_server.fleet.health import HealthDesk
from ct_ops_server.fleet.health_watch import HealthWatch
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.fleet.presence import Presence, PresencePolicy
from ct_ops_server.fleet.sessions import Sessions
from ct_ops_server.fleet.work_provider import TaskSweep, WorkProvider
from ct_ops_server.ownership import owned
from ct_ops_server.public_address import advertised_addresses
from ct_ops_server.releases.shelf import Shelf
from ct_ops_server.store.listening import Listener
from ct_ops_server.store.retention import Retention

_log = logging.getLogger("ct_ops_server")
_DRAIN_S = 2.0
ADMIN_SOCKET = "admin.sock"


@dataclass(frozen=True)
class Running:
    """Where a running server listens."""

    grpc_port: int
    http_port: int
    public_addresses: tuple[str, ...]
    ceiling: int
    """How many connections the descriptor limit allows."""


@asynccontextmanager
async def running_server(
    settings: Settings,
    *,
    limits: Limits | None = None,
    presence: PresencePolicy | None = None,
    announce: Callable[[str], None] = _log.info,
    now: Callable[[], datetime] = utc_now,
) -> AsyncIterator[Running]:
    """Run a server for as long as the block lasts.

    Raises:
        OwnershipError: the data directory is in use or not ours.
        AuthorityError, DatabaseUrlError, SchemaNewerError: something must be put right first.
        StoreError: the database does not answer.
        OSError: a port is in use.
    """
    limits = limits or Limits()
    registry = CollectorRegistry()
    metrics = EdgeMetrics(registry)
    async with AsyncExitStack() as stack:
        stack.enter_context(owned(settings.data_dir))
        core = await stack.enter_async_context(
            open_core(settings, observer=StoreMetrics(registry), announce=announce, now=now)
        )
        callers = Callers(end_grace_s=limits.end_grace_s)
        worker_id = secrets.token_hex(8)
        refusals = await stack.enter_async_context(_refusals_recorded(core, metrics))
        bus = Bus()
        parts = _service_parts(
            core, callers, metrics, limits, worker_id=worker_id, refusal_log=refusals, bus=bus
        )
        await stack.enter_async_context(_presence(core, worker_id, presence or PresencePolicy()))
        await stack.enter_async_context(_push_bus(core, bus, parts))
        await stack.enter_async_context(_samples_looked_after(core, metrics.delivery))
        upstreams = stack.enter_context(_private_sockets())
        http_port = await stack.enter_async_context(_http_apps(core, callers, upstreams, registry))
        door = _front_door(core, parts, upstreams)
        grpc_port = await stack.enter_async_context(_agent_port(core, parts, upstreams, door))
        await stack.enter_async_context(_certificates_followed(core, door))
        await stack.enter_async_context(_admin_socket(core, bus, grpc_port))
        yield Running(
            grpc_port=grpc_port,
            http_port=http_port,
            public_addresses=advertised_addresses(settings, grpc_port=grpc_port),
            ceiling=connection_ceiling(limits),
        )


def _service_parts(
    core: Core,
    callers: Callers,
    metrics: EdgeMetrics,
    limits: Limits,
    *,
    worker_id: str,
    refusal_log: RefusalLog,
    bus: Bus,
) -> ServiceParts:
    return ServiceParts(
        enrolment=core.enrolment,
        challenges=Challenges(random_bytes=secrets.token_bytes, monotonic_s=asyncio.get_running_loop().time),
        served_tls=core.keys.tls,
        web_certificate=core.keys.web_certificate,
        sessions=Sessions(core.store.streams, verifier=core.verifier, worker_id=worker_id, now=core.now),
        deliveries=core.store.deliveries,
        dispatch=Dispatch(
            hint=bus.hint,
            observe=lambda age: metrics.push_seconds.observe(age.total_seconds()),
            monotonic_s=asyncio.get_running_loop().time,
        ),
        inventory=core.store.inventory,
        uploads=Budget(limits.uploaded_packages),
        callers=callers,
        held=HeldRefusals(
            first_s=limits.held_refusal_s,
            longest_s=limits.held_refusal_max_s,
            at_once=limits.held_refusals,
            now_s=asyncio.get_running_loop().time,
        ),
        refusal_log=refusal_log,
        limits=limits,
        metrics=metrics,
        store_id=core.installation.store_id,
        now=core.now,
    )


@asynccontextmanager
async def _presence(core: Core, worker_id: str, policy: PresencePolicy) -> AsyncIterator[None]:
    presence = Presence(
        core.store.presence, worker_id=worker_id, policy=policy, monotonic_s=asyncio.get_running_loop().time
    )
    await presence.start()
    try:
        async with _beside(presence.run):
            yield
    finally:
        await presence.stop()


@asynccontextmanager
async def _refusals_recorded(core: Core, metrics: EdgeMetrics) -> AsyncIterator[RefusalLog]:
    log = RefusalLog(core.store.refusals, dropped=metrics.refusals_dropped.inc)
    try:
        async with _beside(log.run):
            yield log
    finally:
        await log.flush()


@asynccontextmanager
async def _push_bus(core: Core, bus: Bus, parts: ServiceParts) -> AsyncIterator[None]:
    """Serve what commands of any process leave for this one to do."""
    watch = EndingWatch(
        core.store.endings,
        parts.callers,
        observe=lambda age: parts.metrics.revocation_seconds.observe(age.total_seconds()),
    )
    await watch.start()
    bus.subscribe(endings.TOPIC, watch.catch_up, every=endings.CATCH_UP_EVERY)
    parts.dispatch.serve(bus, _providers(core))
    pruning = ResultPruning(core.store.checks)
    bus.subscribe(check_retention.TOPIC, pruning.catch_up, every=check_retention.PRUNE_EVERY)
    listener = Listener(core.store.database, on_hint=bus.hint, on_missed=bus.hint_all)
    sweep = TaskSweep(core.store.tasks, hint=bus.hint, observe=parts.metrics.tasks_counted)
    async with _beside(bus.run, listener.run, sweep.run):
        yield


@asynccontextmanager
async def _samples_looked_after(core: Core, metrics: DeliveryMetrics) -> AsyncIterator[None]:
    """Delete samples that are too old, and count whose do not come."""
    retention = Retention(
        core.store.writer, keep=core.settings.samples_keep, deleted=metrics.samples_deleted.inc
    )
    watch = HealthWatch(HealthDesk(core.store.health), observe=metrics.degraded_counted)
    async with _beside(retention.run, watch.run):
        yield


def _providers(core: Core) -> tuple[Provider, ...]:
    """Return who knows what is due to agents."""
    return (
        CheckProvider(core.store.checks, seal=core.keys.text_seal),
        WorkProvider(core.store.queries, core.store.tasks),
    )


@asynccontextmanager
async def _beside(*runs: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run these for as long as the block lasts.

    One that fails ends the server: without its sweep or its revocations it would only look alive.
    """
    server = asyncio.current_task()
    assert server is not None

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            server.cancel()

    tasks = [asyncio.create_task(run(), name=run.__qualname__) for run in runs]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


@contextmanager
def _private_sockets() -> Iterator[Upstreams]:
    """Return paths for the upstreams' sockets in a folder (0700) that is gone afterwards."""
    # Short, because a UNIX socket's path has at most 107 bytes; systemd's RuntimeDirectory if there is one.
    folder = Path(tempfile.mkdtemp(prefix="ct-ops-", dir=os.environ.get("RUNTIME_DIRECTORY")))
    try:
        yield Upstreams(*(folder / f"{name}.sock" for name in ("lobby", "agents", "http")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _http_apps(
    core: Core, callers: Callers, upstreams: Upstreams, registry: CollectorRegistry
) -> AsyncIterator[int]:
    settings, shelf = core.settings, Shelf(core.settings.agent_dist_dir)
    behind_proxy = client_behind_proxy if settings.trust_proxy_headers else client_of
    monotonic_s = asyncio.get_running_loop().time
    local = build_local_app(
        jwks=core.jwks,
        registry=registry,
        readiness=lambda: _readiness(core),
        downloads=Downloads(shelf, address_of=behind_proxy, now_s=monotonic_s),
    )
    public = build_public_app(
        ca_pem=lambda: core.keys.tls.current.ca_pem,
        jwks=core.jwks,
        downloads=Downloads(shelf, address_of=client_of, now_s=monotonic_s),
    )
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    tcp = socket.create_server((settings.http_host, settings.http_port), family=family)
    servers = (
        HttpServer(local, tcp),
        HttpServer(public, unix_socket(upstreams.http), protocol=protocol_named_by(callers)),
    )
    for server in servers:
        server.start()
    try:
        yield int(tcp.getsockname()[1])
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def _readiness(core: Core) -> Mapping[str, str]:
    """Return what is not ready: ``database``, ``migrations``."""
    try:
        await core.store.database.ping()
        if not await core.store.database.migrations_current():
            return {"migrations": "the database's schema is not the one of this version"}
    except StoreError as error:
        return {"database": str(error)}
    return {}


def _front_door(core: Core, parts: ServiceParts, upstreams: Upstreams) -> FrontDoor:
    return FrontDoor(
        contexts=_contexts(core, core.keys.tls.current),
        identify=core.identify,
        upstreams=upstreams,
        callers=parts.callers,
        limits=parts.limits,
        metrics=parts.metrics,
    )


def _contexts(core: Core, tls: ServerTls) -> TlsContexts:
    return build_contexts(chain=tls.cert_file, key=tls.key_file, authorities_pem=core.authorities_pem)


@asynccontextmanager
async def _certificates_followed(core: Core, door: FrontDoor) -> AsyncIterator[None]:
    """Serve certificates that change on the disk, or that are due for renewal, without a restart."""

    def present(tls: ServerTls) -> None:
        door.present(_contexts(core, tls))

    follower = CertificateFollower(core.keys.tls, core.keys.web_certificate, present=present, now=core.now)
    async with _beside(follower.run):
        yield


@asynccontextmanager
async def _agent_port(
    core: Core, parts: ServiceParts, upstreams: Upstreams, door: FrontDoor
) -> AsyncIterator[int]:
    """Serve agents: gRPC first, the door last; at the end nobody new, then streams, then connections."""
    servers = (await start_lobby(parts, upstreams.lobby), await start_agents(parts, upstreams.agents))
    try:
        yield door.open(core.settings.grpc_host, core.settings.grpc_port)
    finally:
        door.stop_accepting()
        parts.callers.end_rpcs("server_stopping")
        await asyncio.gather(*(server.stop(_DRAIN_S) for server in servers))
        await door.close()


@asynccontextmanager
async def _admin_socket(core: Core, bus: Bus, grpc_port: int) -> AsyncIterator[None]:
    path = core.settings.data_dir / ADMIN_SOCKET
    path.unlink(missing_ok=True)  # we hold the data directory: whoever left it there is gone
    server = HttpServer(
        core.admin_app(hint=bus.hint, grpc_port=grpc_port), unix_socket(path), protocol=PeerChecked
    )
    server.start()
    try:
        yield
    finally:
        await server.stop()
        path.unlink(missing_ok=True)

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
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry

from ct_ops_server.authority.leaf_identity import LeafOfAgent
from ct_ops_server.authority.server_certificate import ServerTls
from ct_ops_server.authority.trust import Trust
from ct_ops_server.background import (
    anchors_recorded,
    audit_followed,
    authority_watched,
    beside,
    figures_kept,
    presence_kept,
    push_bus,
    refusals_recorded,
    samples_looked_after,
)
from ct_ops_server.config.schema import Settings
from ct_ops_server.core import Core, open_core, utc_now
from ct_ops_server.desks import admin_app
from ct_ops_server.edge.actors import PeerNamed
from ct_ops_server.edge.audit_metrics import AuditMetrics
from ct_ops_server.edge.authority_metrics import AuthorityMetrics
from ct_ops_server.edge.budget import Budget
from ct_ops_server.edge.callers import Caller, Callers
from ct_ops_server.edge.certificates import CertificateFollower
from ct_ops_server.edge.front_door import FrontDoor, Upstreams
from ct_ops_server.edge.grpc_servers import start_agents, start_lobby
from ct_ops_server.edge.held_refusals import HeldRefusals
from ct_ops_server.edge.http_requests import ObservedApp, RefusalLines
from ct_ops_server.edge.http_server import HttpServer, PeerChecked
from ct_ops_server.edge.limits import Limits, limits_of
from ct_ops_server.edge.listener import connection_ceiling, raise_descriptor_limit
from ct_ops_server.edge.metrics import EdgeMetrics, StoreMetrics
from ct_ops_server.edge.process_metrics import ProcessMetrics
from ct_ops_server.edge.proxy_protocol import Balancers
from ct_ops_server.edge.refusals import STOPPING
from ct_ops_server.edge.registration_limits import RegistrationLimits
from ct_ops_server.edge.rpc import ServiceParts
from ct_ops_server.edge.server_ca_metrics import ServerCaMetrics
from ct_ops_server.edge.spread import reconnect_within_s
from ct_ops_server.edge.tls import TlsContexts, build_contexts
from ct_ops_server.enrolment.challenges import Challenges
from ct_ops_server.enrolment.departure import Departures
from ct_ops_server.enrolment.refusal_log import RefusalLog
from ct_ops_server.fleet.anchor_log import AnchorLog
from ct_ops_server.fleet.bus import Bus
from ct_ops_server.fleet.dispatch import Dispatch
from ct_ops_server.fleet.presence import PresencePolicy
from ct_ops_server.fleet.sessions import Sessions
from ct_ops_server.http_apps import http_apps, http_socket
from ct_ops_server.ownership import ADMIN_SOCKET, owned
from ct_ops_server.workers.place import Place
from ct_ops_server.workers.sockets import admin_socket

_log = logging.getLogger("ct_ops_server")


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
    place: Place | None = None,
) -> AsyncIterator[Running]:
    """Run a server for as long as the block lasts: a whole one, or one worker of several in its ``place``.

    Raises:
        OwnershipError: the data directory is in use or not ours.
        AuthorityError, DatabaseUrlError, SchemaNewerError: something must be put right first.
        StoreError: the database does not answer.
        OSError: a port is in use.
    """
    limits = limits or limits_of(settings)
    raise_descriptor_limit()
    ceiling = connection_ceiling(limits)
    if settings.max_connections and settings.max_connections > ceiling:
        _log.warning("%s", _too_many_wished_for(settings.max_connections, ceiling))
    registry = CollectorRegistry()
    metrics = EdgeMetrics(registry)
    async with AsyncExitStack() as stack:
        if place is None:  # else our parent holds it for all of us
            stack.enter_context(owned(settings.data_dir))
        store_metrics = StoreMetrics(registry)
        core = await stack.enter_async_context(
            open_core(settings, observer=store_metrics, announce=announce, now=now)
        )
        await stack.enter_async_context(audit_followed(core, AuditMetrics(registry)))
        await stack.enter_async_context(figures_kept(core, metrics, store_metrics, ProcessMetrics(registry)))
        callers = Callers(end_grace_s=limits.end_grace_s)
        worker_id = secrets.token_hex(8)
        refusals = await stack.enter_async_context(refusals_recorded(core, metrics))
        await stack.enter_async_context(authority_watched(core, AuthorityMetrics(registry)))
        ca_metrics = ServerCaMetrics(registry)
        anchors = await stack.enter_async_context(anchors_recorded(core, ca_metrics))
        bus = Bus()
        parts = _service_parts(
            core,
            callers,
            metrics,
            limits,
            worker_id=worker_id,
            refusal_log=refusals,
            anchor_log=anchors,
            bus=bus,
        )
        await stack.enter_async_context(presence_kept(core, worker_id, presence or PresencePolicy()))
        await stack.enter_async_context(push_bus(core, bus, parts, worker_id, ca_metrics))
        await stack.enter_async_context(samples_looked_after(core, metrics.delivery))
        upstreams = stack.enter_context(_private_sockets())
        http_port = await stack.enter_async_context(
            http_apps(
                core,
                callers,
                upstreams,
                registry,
                hint=bus.hint,
                listening=place.http_socket() if place else http_socket(settings),
                answered=metrics.http_answered,
            )
        )
        door = _front_door(core, parts, upstreams)
        _follow_trust(core, door, callers)
        grpc_port = await stack.enter_async_context(_agent_port(core, parts, upstreams, door, place))
        core.whereabouts.listening_on(grpc_port)
        await stack.enter_async_context(_certificates_followed(core, door))
        await stack.enter_async_context(_admin_socket(core, bus, place, metrics))
        yield Running(
            grpc_port=grpc_port,
            http_port=http_port,
            public_addresses=core.whereabouts.addresses,
            ceiling=ceiling,
        )


def _too_many_wished_for(wished: int, ceiling: int) -> str:
    return (
        f"INGEST_MAX_CONNECTIONS is {wished}, and the limit of open files allows {ceiling}, three for each: raise it "
        "(LimitNOFILE= of the unit, `ulimit -Hn` of a shell), or set fewer"
    )


def _service_parts(
    core: Core,
    callers: Callers,
    metrics: EdgeMetrics,
    limits: Limits,
    *,
    worker_id: str,
    refusal_log: RefusalLog,
    anchor_log: AnchorLog,
    bus: Bus,
) -> ServiceParts:
    return ServiceParts(
        enrolment=core.enrolment,
        challenges=Challenges(random_bytes=secrets.token_bytes, monotonic_s=asyncio.get_running_loop().time),
        departures=Departures(core.store.enrolment, core.store.agents, hint=bus.hint),
        served_tls=core.keys.tls,
        anchor_log=anchor_log,
        web_certificate=core.keys.web_certificate,
        sessions=Sessions(
            core.store.streams, verifier=core.trust.verifier, worker_id=worker_id, now=core.now
        ),
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
        registration_limits=RegistrationLimits(limits, now_s=asyncio.get_running_loop().time),
        refusal_log=refusal_log,
        limits=limits,
        metrics=metrics,
        store_id=core.installation.store_id,
        now=core.now,
    )


@contextmanager
def _private_sockets() -> Iterator[Upstreams]:
    """Return paths for the upstreams' sockets in a folder (0700) that is gone afterwards."""
    # Short, because a UNIX socket's path has at most 107 bytes; systemd's RuntimeDirectory if there is one.
    folder = Path(tempfile.mkdtemp(prefix="ct-ops-", dir=os.environ.get("RUNTIME_DIRECTORY")))
    try:
        yield Upstreams(*(folder / f"{name}.sock" for name in ("lobby", "agents", "http")))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _front_door(core: Core, parts: ServiceParts, upstreams: Upstreams) -> FrontDoor:
    return FrontDoor(
        contexts=_contexts(core.trust.current, core.keys.tls.current),
        identify=core.identify,
        upstreams=upstreams,
        callers=parts.callers,
        limits=parts.limits,
        metrics=parts.metrics,
        balancers=Balancers(core.settings.proxy_protocol_networks),
    )


def _contexts(trust: Trust, tls: ServerTls) -> TlsContexts:
    return build_contexts(chain=tls.cert_file, key=tls.key_file, authorities_pem=trust.authorities_pem)


def _follow_trust(core: Core, door: FrontDoor, callers: Callers) -> None:
    """Know every agent CA at handshakes before it signs, and let nobody stay by a leaf of one that is retired."""

    def end_retired(trust: Trust) -> None:
        retired = trust.retired

        def is_of_them(caller: Caller) -> bool:
            leaf = caller.identity
            return isinstance(leaf, LeafOfAgent) and leaf.authority_sha256 in retired

        if count := callers.end_where(is_of_them, "authority_retired"):
            _log.warning("%d connections of agents ended: the agent CA of their leaves is retired", count)

    core.trust.before_change(lambda trust: door.present(_contexts(trust, core.keys.tls.current)))
    core.trust.after_change(end_retired)


@asynccontextmanager
async def _certificates_followed(core: Core, door: FrontDoor) -> AsyncIterator[None]:
    """Serve certificates that change on the disk, or that are due for renewal, without a restart."""

    def present(tls: ServerTls) -> None:
        door.present(_contexts(core.trust.current, tls))

    follower = CertificateFollower(core.keys.tls, core.keys.web_certificate, present=present, now=core.now)
    async with beside(follower.run):
        yield


@asynccontextmanager
async def _agent_port(
    core: Core, parts: ServiceParts, upstreams: Upstreams, door: FrontDoor, place: Place | None
) -> AsyncIterator[int]:
    """Serve agents: gRPC first, the door last; at the end nobody new, then streams, then connections."""
    servers = (await start_lobby(parts, upstreams.lobby), await start_agents(parts, upstreams.agents))
    try:
        port = place.grpc_port if place else core.settings.grpc_port
        yield door.open(core.settings.grpc_host, port, shared=place is not None)
    finally:
        await _drain(core, parts, servers, door)


async def _drain(
    core: Core, parts: ServiceParts, servers: Sequence[grpc.aio.Server], door: FrontDoor
) -> None:
    """Let nobody new in; store and answer what was received; send agents away, each at a moment of its own."""
    door.stop_accepting()
    callers, drain_s = parts.callers, core.settings.drain.total_seconds()
    within_s = reconnect_within_s(callers.agents, door.handshakes.best_per_s)
    _log.info("%d agents are sent away, to come back within %.1f s", callers.agents, within_s)
    callers.drain(STOPPING, reconnect_within_s=within_s)
    late = asyncio.get_running_loop().call_later(drain_s, callers.end_rpcs, STOPPING)
    await asyncio.gather(*(server.stop(drain_s + parts.limits.last_words_s) for server in servers))
    late.cancel()
    await door.close()


@asynccontextmanager
async def _admin_socket(
    core: Core, bus: Bus, place: Place | None, metrics: EdgeMetrics
) -> AsyncIterator[None]:
    path = core.settings.data_dir / ADMIN_SOCKET
    with ExitStack() as stack:
        # A worker's is its parent's: that one makes it and takes it away.
        listening = place.admin_socket() if place else stack.enter_context(admin_socket(path))
        app = ObservedApp(
            PeerNamed(admin_app(core, hint=bus.hint)),
            name="admin",
            lines=RefusalLines(asyncio.get_running_loop().time),
            answered=metrics.http_answered,
        )
        server = HttpServer(app, listening, protocol=PeerChecked)
        server.start()
        try:
            yield
        finally:
            await server.stop()

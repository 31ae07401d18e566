"""What a server does beside answering: presence, refusals, the push bus, samples. Each for as long as its block lasts.

Parts run `beside` the server: one that fails ends it, because without its sweep or its revocations it would only
look alive.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

from ct_ops_server.audit.pruning import signed_reach
from ct_ops_server.authority import ports
from ct_ops_server.authority.public_key import parse_spki
from ct_ops_server.authority.trust_watch import CATCH_UP_EVERY, TrustWatch
from ct_ops_server.core import Core, keeping_of
from ct_ops_server.edge.audit_metrics import AuditMetrics
from ct_ops_server.edge.authority_metrics import AuthorityMetrics
from ct_ops_server.edge.delivery_metrics import DeliveryMetrics
from ct_ops_server.edge.metrics import EdgeMetrics, StoreMetrics
from ct_ops_server.edge.process_metrics import LOOK_EVERY_S, ProcessMetrics, resident_bytes
from ct_ops_server.edge.rpc import ServiceParts
from ct_ops_server.edge.server_ca_metrics import ServerCaMetrics
from ct_ops_server.enrolment.refusal_log import RefusalLog
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.fleet import check_retention, endings, shared_server_cas
from ct_ops_server.fleet.agent_census import AgentCensus
from ct_ops_server.fleet.anchor_log import AnchorLog
from ct_ops_server.fleet.authority_watch import AuthorityWatch
from ct_ops_server.fleet.bus import Bus
from ct_ops_server.fleet.check_delivery import CheckProvider
from ct_ops_server.fleet.check_retention import ResultPruning
from ct_ops_server.fleet.dispatch import Provider
from ct_ops_server.fleet.endings import EndingWatch
from ct_ops_server.fleet.health import HealthDesk
from ct_ops_server.fleet.health_watch import HealthWatch
from ct_ops_server.fleet.hurry import LOOK_EVERY, STEP_TOPIC, HurryRun
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.fleet.presence import Presence, PresencePolicy
from ct_ops_server.fleet.server_ca_watch import AlarmMemory, ServerCaWatch
from ct_ops_server.fleet.work import NewLeaf
from ct_ops_server.fleet.work_provider import TaskSweep, WorkProvider
from ct_ops_server.ownership import one_at_a_time
from ct_ops_server.store.audit_pruning import AuditPruning
from ct_ops_server.store.forgetting import Forgetting, RecordsKeep
from ct_ops_server.store.housekeeping import Housekeeping
from ct_ops_server.store.listening import Listener
from ct_ops_server.store.retention import Retention
from ct_ops_server.store.rolling import Rolling
from ct_ops_server.store.upkeep import Upkeep

_SERVER_CAS_EVERY = timedelta(seconds=5)
"""How often it is looked whether another node took a step of the server CA."""

_SUMMED_UP_EVERY_S = 15.0
"""How often it is looked whether refusals are due for the audit log."""


@asynccontextmanager
async def beside(*runs: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
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


@asynccontextmanager
async def presence_kept(core: Core, worker_id: str, policy: PresencePolicy) -> AsyncIterator[None]:
    """Show that this worker lives, and end the presence of agents whose worker does not."""
    presence = Presence(
        core.store.presence, worker_id=worker_id, policy=policy, monotonic_s=asyncio.get_running_loop().time
    )
    await presence.start()
    try:
        async with beside(presence.run):
            yield
    finally:
        await presence.stop()


@asynccontextmanager
async def audit_followed(core: Core, metrics: AuditMetrics) -> AsyncIterator[None]:
    """Write the audit log to its files, to the last decision of this process."""
    follower = core.audit_follower(metrics)
    try:
        async with beside(follower.run):
            yield
    finally:
        await follower.close()


@asynccontextmanager
async def refusals_recorded(core: Core, metrics: EdgeMetrics) -> AsyncIterator[RefusalLog]:
    """Keep who was not admitted, written beside the refusals themselves."""
    log = RefusalLog(core.store.refusals, dropped=metrics.refusals_dropped.inc)

    async def sum_up() -> None:
        while True:
            await asyncio.sleep(_SUMMED_UP_EVERY_S)
            with suppress(StoreError):  # it is told with the next ones
                await core.store.refusals.record_summed_up()

    try:
        async with beside(log.run, sum_up):
            yield log
    finally:
        await log.flush()
        with suppress(StoreError):
            await core.store.refusals.record_summed_up(everything=True)


@asynccontextmanager
async def anchors_recorded(core: Core, metrics: ServerCaMetrics) -> AsyncIterator[AnchorLog]:
    """Keep which server CAs agents believe, written beside their frames, and look after these CAs."""
    log = AnchorLog(core.store.anchors)
    watch = ServerCaWatch(
        core.store.anchors,
        core.keys.tls,
        core.server_cas,
        AlarmMemory(core.settings.data_dir, one_at_a_time),
        observe=metrics.looked,
        now=core.now,
    )
    with suppress(StoreError):  # the watch says so, and tries again
        await watch.take_due()
    try:
        async with beside(log.run, watch.run):
            yield log
    finally:
        await log.flush()


@asynccontextmanager
async def authority_watched(core: Core, metrics: AuthorityMetrics) -> AsyncIterator[None]:
    """Show how long the agent CA lasts and how far a rotation is, and warn in time."""
    desk = core.authority_desk(hint=lambda _: None)
    watch = AuthorityWatch(desk.overview, observe=metrics.looked, now=core.now)
    async with beside(watch.run):
        yield


@asynccontextmanager
async def push_bus(
    core: Core, bus: Bus, parts: ServiceParts, worker_id: str, metrics: ServerCaMetrics
) -> AsyncIterator[None]:
    """Serve what commands of any process leave for this one to do."""
    watch = EndingWatch(
        core.store.endings,
        parts.callers,
        observe=lambda age: parts.metrics.revocation_seconds.observe(age.total_seconds()),
    )
    await watch.start()
    bus.subscribe(endings.TOPIC, watch.catch_up, every=endings.CATCH_UP_EVERY)
    trust = TrustWatch(
        core.trust,
        core.store.trust,
        read=core.keyring.read,
        worker_id=worker_id,
        node=socket.gethostname(),
    )
    bus.subscribe(ports.TOPIC, trust.catch_up, every=CATCH_UP_EVERY)
    if core.keys.tls.current.state_file is not None:
        core.server_cas.follow_as(worker_id, socket.gethostname())
        bus.subscribe(shared_server_cas.TOPIC, core.server_cas.catch_up, every=_SERVER_CAS_EVERY)
    hurry = HurryRun(
        core.store.hurries,
        hint=bus.hint,
        observe=metrics.hurry_stepped,
        issue=partial(pushed_leaf, core.enrolment),
    )
    parts.dispatch.serve(bus, (*providers(core), hurry))
    bus.subscribe(STEP_TOPIC, hurry.tick, every=LOOK_EVERY)
    pruning = ResultPruning(core.store.checks)
    bus.subscribe(check_retention.TOPIC, pruning.catch_up, every=check_retention.PRUNE_EVERY)
    listener = Listener(core.store.database, on_hint=bus.hint, on_missed=bus.hint_all)
    sweep = TaskSweep(core.store.tasks, hint=bus.hint, observe=parts.metrics.tasks_counted)
    async with beside(bus.run, listener.run, sweep.run):
        yield


async def pushed_leaf(enrolment: Enrolment, agent_id: str, public_key_der: bytes) -> NewLeaf:
    """Sign a leaf that is pushed to an existing agent, which is connected."""
    renewal = await enrolment.renew_leaf(agent_id, parse_spki(public_key_der))
    not_after = renewal.leaf_not_after
    ends = 0 if not_after is None else int(not_after.timestamp())
    return NewLeaf(renewal.leaf_pem, ends, enrolment.authority_pem)


@asynccontextmanager
async def samples_looked_after(core: Core, metrics: DeliveryMetrics) -> AsyncIterator[None]:
    """Roll samples up, remove what is past keeping, and count whose samples do not come."""
    housekeeping = housekeeping_of(core, metrics)
    watch = HealthWatch(HealthDesk(core.store.health), observe=metrics.degraded_counted)
    async with beside(housekeeping.run, watch.run):
        yield


@asynccontextmanager
async def figures_kept(
    core: Core, edge: EdgeMetrics, store: StoreMetrics, process: ProcessMetrics
) -> AsyncIterator[None]:
    """Show how many agents there are, what waits for the database, and what this process costs."""
    clock, writer = asyncio.get_running_loop().time, core.store.writer

    async def look() -> None:
        while True:
            due_s = clock() + LOOK_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)
            process.looked(late_s=clock() - due_s, cpu_s=time.process_time(), resident_bytes=resident_bytes())
            store.writer_looked_at(writer.waiting, writer.lag_s)

    census = AgentCensus(core.store.agents, observe=edge.agents_counted)
    async with beside(look, census.run):
        yield


def housekeeping_of(core: Core, metrics: DeliveryMetrics) -> Housekeeping:
    """Return who rolls up, removes and forgets, as it is configured."""
    settings = core.settings
    keeping = keeping_of(settings)
    records = RecordsKeep(settings.samples_keep, settings.tokens_keep, settings.history_keep)
    upkeep = Upkeep(core.store.database, core.store.writer)
    rolling = Rolling(upkeep, stepped=metrics.rollup_steps.observe, lagging=metrics.rollup_lag.set)
    retention = Retention(
        upkeep, rolling, keeping=keeping, series_keep=settings.series_keep, removed=metrics.removed
    )
    forgetting = Forgetting(upkeep, keep=records, removed=metrics.removed)
    files, key = core.audit_place().directory, core.keys.audit.key.public_key()
    pruning = AuditPruning(
        upkeep, keep=settings.audit_keep, signed=partial(signed_reach, files, key), removed=metrics.removed
    )
    return Housekeeping(upkeep, rolling, retention, forgetting, pruning)


def providers(core: Core) -> tuple[Provider, ...]:
    """Return who knows what is due to agents."""
    return (
        CheckProvider(core.store.checks, seal=core.keys.text_seal),
        WorkProvider(core.store.queries, core.store.tasks),
    )

"""The rows of a hurry (``fleet.hurry``). A step is one transaction that holds the hurry's row, so workers take turns.

Nobody is picked while a worker has not taken up the latest step of the agent CA: it would sign by the old one.
Whoever was picked and not told within a minute (its worker died, its stream ended first) is let go and may be picked
again; so is whoever reconnected before it was told. Whoever was told and has a later stream is back.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.authority.life_cycle import TrustState
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.hurry import BACK_WITHIN_MS, STEP_TOPIC, TOPIC, Act, Claim, Hurry, HurryState, decide
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.anchor_tables import agent_anchors
from ct_ops_server.store.audit import append
from ct_ops_server.store.counters import read_counter
from ct_ops_server.store.database import Database
from ct_ops_server.store.hurry_tables import hurried, hurries
from ct_ops_server.store.listening import notify
from ct_ops_server.store.presence import LEASE_LIFETIME, is_online, younger_than
from ct_ops_server.store.schema import Bytes, agents, authorities, leaves, now_ms, workers
from ct_ops_server.store.trust import TRUST_COUNTER
from ct_ops_server.store.upsert import upsert
from ct_ops_server.store.values import from_ms
from ct_ops_server.store.work_tables import tasks
from ct_ops_server.store.writer import GroupWriter

_PICK_LASTS_MS = 60_000
_MOST_NAMED = 20
_UNDER_WAY = ("sent", "running", "cancelling")

_target = sa.bindparam("target", type_=Bytes)
_HAS_LEAF = sa.exists().where(leaves.c.agent_id == agents.c.id, leaves.c.authority_sha256 == _target)
_IS_HURRIED = sa.exists().where(hurried.c.agent_id == agents.c.id)
_IS_OURS = sa.exists().where(agent_anchors.c.agent_id == agents.c.id)
_STAYS_DOWN = sa.and_(sa.not_(_IS_OURS), sa.func.lower(agents.c.os).like("windows%"))
_HAS_TASK = sa.exists().where(tasks.c.agent_id == agents.c.id, tasks.c.state.in_(_UNDER_WAY))
_REMAINS = sa.and_(agents.c.status == AgentStatus.ACTIVE.value, sa.not_(_HAS_LEAF))
_CANDIDATE = (
    sa.select(agents.c.id, agents.c.generation)
    .where(_REMAINS, is_online(), sa.not_(_IS_HURRIED), sa.not_(_STAYS_DOWN), sa.not_(_HAS_TASK))
    .order_by(agents.c.id)
    .limit(1)
)
_HAS_LATER_STREAM = sa.exists().where(
    agents.c.id == hurried.c.agent_id, agents.c.generation > hurried.c.generation
)
_IS_BACK_NOW = sa.exists().where(
    agents.c.id == hurried.c.agent_id, agents.c.generation > hurried.c.generation, agents.c.online
)
_LET_GO = hurried.delete().where(
    hurried.c.pushed_at.is_(None),
    sa.or_(hurried.c.picked_at < now_ms() - _PICK_LASTS_MS, _HAS_LATER_STREAM),
)
_NOTE_BACK = (
    hurried.update()
    .where(hurried.c.back_at.is_(None), hurried.c.pushed_at.is_not(None), _IS_BACK_NOW)
    .values(back_at=now_ms())
)
_IS_MISSING = sa.and_(
    hurried.c.back_at.is_(None),
    hurried.c.pushed_at < now_ms() - BACK_WITHIN_MS,
    sa.not_(hurried.c.excused),
)
_ACTIVE = sa.select(authorities.c.sha256).where(authorities.c.state == TrustState.ACTIVE.value)
# Back without a leaf of the target: it did not take it, or reconnected for another reason.
_PICK_AGAIN = hurried.delete().where(
    hurried.c.back_at.is_not(None), sa.exists().where(agents.c.id == hurried.c.agent_id, _REMAINS)
)


class SqlHurryStore:
    """``fleet.hurry.HurryStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def start_hurry(self, *, actor: str) -> None:
        """Start one for the agent CA that signs, or go on with it, without those that did not come back."""

        async def start(connection: AsyncConnection) -> None:
            target: bytes = (await connection.scalars(_ACTIVE)).one()
            found = (await connection.execute(sa.select(hurries).with_for_update())).one_or_none()
            if found is None or found.target != target:
                await connection.execute(hurried.delete())
            await connection.execute(hurried.update().where(_IS_MISSING).values(excused=True))
            row = {"only_row": 1, "target": target, "state": HurryState.RUNNING.value, "reason": ""}
            row |= {"started_by": actor, "started_at": now_ms(), "last_sent_at": None}
            await connection.execute(upsert(connection, hurries, row, key="only_row"))
            await append(connection, [Decision(Action.CA_HURRIED, actor, subject=target.hex())])
            await notify(connection, STEP_TOPIC)

        await self._writer.run(start)

    async def stop_hurry(self, *, actor: str) -> bool:
        """Stop it; False when none runs."""

        async def stop(connection: AsyncConnection) -> bool:
            running = hurries.c.state.in_((HurryState.RUNNING.value, HurryState.HALTED.value))
            values = {"state": HurryState.STOPPED.value, "reason": f"stopped by {actor}"}
            stopped = await connection.execute(hurries.update().where(running).values(values))
            if stopped.rowcount:
                await append(connection, [Decision(Action.CA_HURRY_STOPPED, actor)])
            await notify(connection, TOPIC)
            return bool(stopped.rowcount)

        return await self._writer.run(stop)

    async def hurry(self) -> Hurry | None:
        """Return how the latest one is."""
        async with self._database.reading() as connection:
            row = (await connection.execute(sa.select(hurries))).one_or_none()
            return None if row is None else await _read(connection, row)

    async def step_hurry(self) -> HurryState | None:
        """Take a step if one is due; return the state after it."""
        async with self._database.reading() as connection:
            state = await connection.scalar(sa.select(hurries.c.state))
        if state != HurryState.RUNNING.value:
            return None if state is None else HurryState(state)
        return await self._writer.run(_step)

    async def claim_hurried(self, streams: Sequence[LiveStream]) -> Sequence[Claim]:
        """Return which of these streams are to be told now. Each is returned once."""
        picked = (
            sa.select(hurried.c.agent_id, hurried.c.generation, agents.c.public_key_der)
            .join(agents, agents.c.id == hurried.c.agent_id)
            .where(hurried.c.pushed_at.is_(None))
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(picked)).all()
        keys = {(row.agent_id, row.generation): row.public_key_der for row in rows}
        here = [each for each in streams if (each.agent_id, each.generation) in keys]
        if not here:
            return []
        taken = await self._take([each.agent_id for each in here])
        return [Claim(each, keys[each.agent_id, each.generation]) for each in here if each.agent_id in taken]

    async def _take(self, agent_ids: Sequence[str]) -> frozenset[str]:
        async def take(connection: AsyncConnection) -> frozenset[str]:
            statement = (
                hurried.update()
                .where(hurried.c.agent_id.in_(agent_ids), hurried.c.pushed_at.is_(None))
                .values(pushed_at=now_ms())
                .returning(hurried.c.agent_id)
            )
            return frozenset(await connection.scalars(statement))

        return await self._writer.run(take)


async def _step(connection: AsyncConnection) -> HurryState | None:
    held = sa.select(hurries, now_ms().label("now")).with_for_update()
    row = (await connection.execute(held)).one_or_none()
    if row is None or row.state != HurryState.RUNNING.value:
        return None if row is None else HurryState(row.state)
    await connection.execute(_LET_GO)
    await connection.execute(_NOTE_BACK)
    await connection.execute(_PICK_AGAIN, {"target": row.target})
    if await connection.scalar(_ACTIVE) != row.target:
        return await _end(connection, HurryState.STOPPED, "this agent CA does not sign any more")
    missing = await connection.scalar(sa.select(sa.func.count()).select_from(hurried).where(_IS_MISSING))
    act = decide(now_ms=row.now, last_sent_ms=row.last_sent_at, missing=missing or 0)
    if act is Act.HALT:
        return await _end(connection, HurryState.HALTED, f"{missing} agents are not back within 2 minutes")
    if act is Act.WAIT or await _workers_are_behind(connection):
        return HurryState.RUNNING
    return await _send(connection, row.target)


async def _workers_are_behind(connection: AsyncConnection) -> bool:
    version = await read_counter(connection, TRUST_COUNTER)
    behind = sa.func.coalesce(workers.c.trust_version, 0) < version
    return bool(await connection.scalar(sa.select(sa.exists().where(younger_than(LEASE_LIFETIME), behind))))


async def _send(connection: AsyncConnection, target: bytes) -> HurryState:
    found = (await connection.execute(_CANDIDATE, {"target": target})).one_or_none()
    if found is None:
        remaining = sa.select(sa.func.count()).select_from(agents).where(_REMAINS)
        if not await connection.scalar(remaining, {"target": target}):
            return await _end(connection, HurryState.DONE, "every active agent has a leaf of it")
        return HurryState.RUNNING
    row = {"agent_id": found.id, "generation": found.generation, "picked_at": now_ms(), "excused": False}
    await connection.execute(hurried.insert().values(row))
    await connection.execute(hurries.update().values(last_sent_at=now_ms()))
    await notify(connection, TOPIC)
    return HurryState.RUNNING


async def _end(connection: AsyncConnection, state: HurryState, reason: str) -> HurryState:
    await connection.execute(hurries.update().values(state=state.value, reason=reason))
    await notify(connection, TOPIC)
    return state


async def _read(connection: AsyncConnection, row: sa.Row[tuple[object, ...]]) -> Hurry:
    told = sa.select(sa.func.count(hurried.c.pushed_at), sa.func.count(hurried.c.back_at))
    asked, back = (await connection.execute(told)).one()
    missing = (
        sa.select(agents.c.hostname)
        .join(hurried, hurried.c.agent_id == agents.c.id)
        .where(_IS_MISSING)
        .order_by(agents.c.hostname)
        .limit(_MOST_NAMED)
    )
    parameters = {"target": row.target}
    count = sa.select(sa.func.count()).select_from(agents)
    return Hurry(
        target=row.target,
        state=HurryState(row.state),
        reason=row.reason,
        started_by=row.started_by,
        started_at=from_ms(row.started_at),
        asked=asked,
        back=back,
        missing=tuple(await connection.scalars(missing)),
        remaining=await connection.scalar(count.where(_REMAINS), parameters) or 0,
        left_alone=await connection.scalar(count.where(_REMAINS, _STAYS_DOWN), parameters) or 0,
    )

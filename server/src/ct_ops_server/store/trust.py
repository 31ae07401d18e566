"""Agent CAs and keys of agent tokens as rows: ``authority.ports.TrustStore``.

What is public is kept for good: a leaf of a retired authority must still be recognised (rule 1), a token
signed with a retired key still be verified (rule 11). A private key is here only while a rotation needs it on
every node, sealed under the installation's secret, which is never here (ADR 16).

A step is one transaction. It raises the counter ``trust`` first, whose row stays locked until the commit, so
steps come one after the other on however many nodes, and each knows what it was planned for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.authority.life_cycle import Holders, Kind, Straggler, TrustState
from ct_ops_server.authority.ports import (
    TOPIC,
    Change,
    Heard,
    NewKey,
    Share,
    StoredKey,
    StoredTrust,
    TrustChangedError,
)
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.audit import append
from ct_ops_server.store.counters import raise_counter, read_counter
from ct_ops_server.store.database import Database
from ct_ops_server.store.hurry_tables import hurries
from ct_ops_server.store.listening import notify
from ct_ops_server.store.presence import LEASE_LIFETIME, is_online, younger_than
from ct_ops_server.store.schema import (
    Integer64,
    agents,
    authorities,
    leaves,
    now_ms,
    sealed_keys,
    signing_keys,
    workers,
)
from ct_ops_server.store.upsert import insert_if_absent, upsert
from ct_ops_server.store.writer import GroupWriter

TRUST_COUNTER = "trust"


class SqlTrustStore:
    """``authority.ports.TrustStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def heard(self, worker_id: str) -> Heard:
        """Return the version of the latest step, and the one that a worker last reported."""
        mine = sa.select(sa.func.coalesce(workers.c.trust_version, -1)).where(workers.c.id == worker_id)
        async with self._database.reading() as connection:
            return Heard(await read_counter(connection, TRUST_COUNTER), await connection.scalar(mine))

    async def load(self) -> StoredTrust:
        """Return everything; what changes meanwhile has a later version, so whoever asks again finds it."""
        async with self._database.reading() as connection:
            version = await read_counter(connection, TRUST_COUNTER)  # first: rows may be younger, never older
            sealed = {row.name: row.sealed_pem for row in await connection.execute(sa.select(sealed_keys))}
            keys = {kind: await _stored(connection, kind, sealed) for kind in Kind}
        return StoredTrust(version, keys)

    async def change(self, change: Change) -> int:
        """Store a step; return its version.

        Raises:
            TrustChangedError: the version is not the expected one, or a server runs.
        """

        async def take(connection: AsyncConnection) -> int:
            version = await raise_counter(connection, TRUST_COUNTER)
            await _must_fit(connection, change, version)
            await _store_states(connection, change)
            if change.new is not None:
                await _store_new(connection, change.kind, change.new)
            await _store_renewal(connection, change)
            for name, sealed in change.sealed_keys.items():
                row = {"name": _key_row(change.kind, name), "sealed_pem": sealed, "recorded_at": now_ms()}
                await connection.execute(upsert(connection, sealed_keys, row, key="name"))
            await append(connection, change.decisions)
            await notify(connection, TOPIC)
            return version

        return await self._writer.run(take)

    async def report(self, worker_id: str, node: str, version: int) -> None:
        """Record that a worker acts by this version; without a lease it is no worker, and nothing is recorded."""

        async def report(connection: AsyncConnection) -> None:
            mine = workers.c.id == worker_id
            await connection.execute(workers.update().where(mine).values(node=node, trust_version=version))

        await self._writer.run(report)

    async def stragglers(self, version: int) -> Sequence[Straggler]:
        """Return the living workers that act by an older version."""
        behind = sa.func.coalesce(workers.c.trust_version, 0) < version
        query = sa.select(workers).where(younger_than(LEASE_LIFETIME), behind).order_by(workers.c.id)
        async with self._database.reading() as connection:
            return [Straggler(row.id, row.node or "") for row in await connection.execute(query)]

    async def shares(self, now: datetime) -> Sequence[Share]:
        """Return how many active agents have their latest leaf from which agent CA."""
        async with self._database.reading() as connection:
            return [
                Share(row.authority_sha256.hex(), row.agents, row.good or 0)
                for row in await connection.execute(_SHARES, {"now": _milliseconds(now)})
            ]

    async def holders(self, name: str, now: datetime, *, first: int) -> Holders:
        """Return the active agents whose latest leaf is good and of this agent CA, online ones first."""
        parameters = {"authority": bytes.fromhex(name), "first": first, "now": _milliseconds(now)}
        async with self._database.reading() as connection:
            count = await connection.scalar(_COUNT_HOLDERS, parameters)
            rows = await connection.execute(_FIRST_HOLDERS, parameters)
            return Holders(count or 0, tuple(row.hostname for row in rows))


def _latest_leaves() -> sa.Subquery:
    """Return the latest leaf of every active agent. That one was signed is no proof that it arrived; who lost it proves its key."""
    rank = sa.func.row_number().over(
        partition_by=leaves.c.agent_id, order_by=(leaves.c.issued_at.desc(), leaves.c.not_after.desc())
    )
    ranked = (
        sa.select(leaves.c.agent_id, leaves.c.authority_sha256, leaves.c.not_after, rank.label("rank"))
        .join(agents, agents.c.id == leaves.c.agent_id)
        .where(agents.c.status == AgentStatus.ACTIVE.value)
        .subquery()
    )
    return sa.select(ranked).where(ranked.c.rank == 1).subquery()


_LATEST = _latest_leaves()
# By the clock that leaves are signed by, which is the server's.
_IS_GOOD = _LATEST.c.not_after > sa.bindparam("now", type_=Integer64)
_SHARES = sa.select(
    _LATEST.c.authority_sha256,
    sa.func.count().label("agents"),
    sa.func.sum(sa.case((_IS_GOOD, 1), else_=0)).label("good"),
).group_by(_LATEST.c.authority_sha256)
_HOLD = (_LATEST.c.authority_sha256 == sa.bindparam("authority"), _IS_GOOD)
_COUNT_HOLDERS = sa.select(sa.func.count()).select_from(_LATEST).where(*_HOLD)
_FIRST_HOLDERS = (
    sa.select(agents.c.hostname)
    .join(_LATEST, _LATEST.c.agent_id == agents.c.id)
    .where(*_HOLD)
    .order_by(is_online().desc(), agents.c.hostname)
    .limit(sa.bindparam("first"))
)


def _table(kind: Kind) -> sa.Table:
    return authorities if kind is Kind.CA else signing_keys


def _key(kind: Kind, name: str) -> Any:
    """Return the primary key of a row."""
    return bytes.fromhex(name) if kind is Kind.CA else name


def _columns(kind: Kind) -> tuple[str, str]:
    """Return the columns of the key and of what is public."""
    return ("sha256", "certificate_pem") if kind is Kind.CA else ("kid", "public_pem")


def _key_row(kind: Kind, name: str) -> str:
    return f"{kind}:{name}"


async def _stored(connection: AsyncConnection, kind: Kind, sealed: dict[str, str]) -> list[StoredKey]:
    table = _table(kind)
    key, public = _columns(kind)
    rows = (await connection.execute(sa.select(table).order_by(table.c.recorded_at))).mappings()
    found = []
    for row in rows:
        name = row[key].hex() if kind is Kind.CA else row[key]
        since = _moment(row["changed_at"] or row["recorded_at"])
        state = TrustState(row["state"])
        found.append(StoredKey(name, row[public], state, since, sealed.get(_key_row(kind, name))))
    return found


async def _must_fit(connection: AsyncConnection, change: Change, version: int) -> None:
    if change.expected_version is not None and version != change.expected_version + 1:
        raise TrustChangedError("another step was taken meanwhile: look at `ca status` again")
    if change.only_without_workers:
        living = sa.select(sa.literal(1)).where(younger_than(LEASE_LIFETIME)).exists()
        if await connection.scalar(sa.select(living)):
            raise TrustChangedError("a server is running on this database")


async def _store_states(connection: AsyncConnection, change: Change) -> None:
    table = _table(change.kind)
    column = table.c[_columns(change.kind)[0]]
    # Whoever leaves "active" goes first: at no moment are there two, which the database would refuse.
    ordered = sorted(change.states.items(), key=lambda each: each[1] is TrustState.ACTIVE)
    for name, state in ordered:
        values = {"state": state.value, "changed_at": now_ms()}
        await connection.execute(table.update().where(column == _key(change.kind, name)).values(values))
        if state is TrustState.RETIRED:
            gone = sealed_keys.c.name == _key_row(change.kind, name)
            await connection.execute(sealed_keys.delete().where(gone))


async def _store_new(connection: AsyncConnection, kind: Kind, new: NewKey) -> None:
    table = _table(kind)
    key, public = _columns(kind)
    row = {key: _key(kind, new.name), public: new.public_pem, "state": new.state.value}
    row |= {"recorded_at": now_ms(), "changed_at": now_ms()}
    await connection.execute(insert_if_absent(connection, table, row, key=key))


async def _store_renewal(connection: AsyncConnection, change: Change) -> None:
    """Store other certificates; whatever counts or hurries by an agent CA's name goes on by the renewed one's."""
    table, (key, public) = _table(change.kind), _columns(change.kind)
    for name, pem in change.public_pems.items():
        row = table.c[key] == _key(change.kind, name)
        await connection.execute(table.update().where(row).values({public: pem}))
    if change.instead_of is None or change.new is None:
        return
    before, new = bytes.fromhex(change.instead_of), bytes.fromhex(change.new.name)
    theirs = leaves.c.authority_sha256 == before
    await connection.execute(leaves.update().where(theirs).values(authority_sha256=new))
    await connection.execute(hurries.update().where(hurries.c.target == before).values(target=new))


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)

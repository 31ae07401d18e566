"""What a restored database has to forget and to learn before a server may open it (rule 25).

A copy describes a moment that has passed. In one transaction, after the migrations:

* Another store id: agents compare it, and deliver again what they retained since.
* Nobody is connected: no worker lives, no agent is online. Generations jump by more streams than an agent ever opens,
  so that a stream which outlived the other database is fenced, and no later one is.
* What was decided since is decided again, as far as the audit log tells (``replaying``). Where nothing tells, every
  enrolment token that could be used is revoked: whether its uses were spent since, nobody knows. So it is where
  something tells half of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ct_ops_server.audit.decisions import Action, Decision, Detail
from ct_ops_server.audit.entries import START, Entry, Link
from ct_ops_server.audit.keys import unvouched
from ct_ops_server.store import engines, migrations
from ct_ops_server.store.audit import ChainMismatchError, adopt, append, recording
from ct_ops_server.store.database_url import SqliteTarget, parse_database_url
from ct_ops_server.store.errors import BackupError
from ct_ops_server.store.faults import store_error
from ct_ops_server.store.replaying import Event, replay
from ct_ops_server.store.schema import agents, installation, now_ms, tokens, workers
from ct_ops_server.store.snapshot import audit_reach, describe

_REVISION = sa.table("alembic_version", sa.column("version_num", sa.String))
_Done = TypeVar("_Done")
_GENERATIONS = 1 << 32
_ACTOR = "restore"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a restored database is settled."""

    copied_at_ms: int
    schema: str
    """Of the copy."""
    counts: Mapping[str, int]
    """Rows that the copy had when it was made."""
    since: Sequence[Event] | None
    """What was decided since; None: nothing tells."""
    chain: Sequence[Entry] = ()
    """The entries of the audit log that follow those of the copy."""
    unvouched: tuple[int, int] = (1, 0)
    """The first and last of them that no signed head reaches; the first is larger when there is none."""
    tells_all: bool = True
    """Whether ``since`` is all that was decided; else uses of tokens may be missing in it."""
    actor: str = "restore"
    """Who restores."""
    keep_tokens: bool = False
    """Leave usable enrolment tokens as they are although nothing tells of their uses."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What was done to a restored database."""

    store_id: bytes
    replayed: Mapping[str, int]
    """How much of what was decided again."""
    tokens_revoked: int
    """Because nothing told of their uses."""


async def settle(
    url: str, terms: Terms, *, new_store_id: Callable[[], bytes] = lambda: secrets.token_bytes(16)
) -> Settled:
    """Make a restored database one that a server may open: all of it, or nothing.

    Raises:
        BackupError: the copy does not hold what it did when it was made.
        SchemaNewerError: a newer version of CT-Ops made the copy.
        StoreError: the database does not answer, or holds something else.
    """
    target = parse_database_url(url)
    if isinstance(target, SqliteTarget):
        # Of its own: a migration has the foreign keys off, and a deletion needs them. Nobody sees the file yet.
        await _in_one_transaction(engines.migration_engine(target), partial(_migrate, terms=terms))
        return await _in_one_transaction(
            engines.write_engine(target), partial(_settle, terms=terms, store_id=new_store_id())
        )
    return await _in_one_transaction(
        engines.migration_engine(target), partial(_migrate_and_settle, terms=terms, store_id=new_store_id())
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What was decided since a copy: see ``Terms``."""

    events: Sequence[Event]
    chain: Sequence[Entry] = ()
    unvouched: tuple[int, int] = (1, 0)
    tells_all: bool = True


async def decide_again(
    url: str, told: Callable[[Link], Told | None], *, actor: str
) -> Mapping[str, int] | None:
    """Do again in a copy of whatever schema what was decided since; return how much of what, None when nothing tells.

    For the way back from an upgrade: the program of before opens the copy, so it is not migrated.

    Raises:
        BackupError: what is told does not go on where the copy ends.
        StoreError: the database does not answer, or holds something else.
    """

    async def work(connection: AsyncConnection) -> Mapping[str, int] | None:
        reached = await connection.run_sync(audit_reach)
        since = told(reached or START)
        if reached is not None:
            await _adopt(connection, () if since is None else since.chain)
            doubted = (1, 0) if since is None else since.unvouched
            await _record(connection, actor, doubted, told=since is not None and since.tells_all)
        return None if since is None else await replay(connection, since.events)

    return await _in_one_transaction(engines.write_engine(parse_database_url(url)), work)


async def _in_one_transaction(
    engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[_Done]]
) -> _Done:
    try:
        async with engine.begin() as connection:
            return await work(connection)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise store_error(error) from error
    finally:
        await engine.dispose()


async def _migrate_and_settle(connection: AsyncConnection, *, terms: Terms, store_id: bytes) -> Settled:
    await _migrate(connection, terms=terms)
    return await _settle(connection, terms=terms, store_id=store_id)


async def _migrate(connection: AsyncConnection, *, terms: Terms) -> None:
    found = (await connection.run_sync(describe)).counts
    if wrong := [name for name, count in terms.counts.items() if found.get(name) != count]:
        raise BackupError(
            f"the copy does not hold what it did when it was made ({', '.join(wrong[:3])}): use another backup"
        )
    # It may say migrations.UNSETTLED, so that no server opens it before this is done.
    await connection.execute(_REVISION.update().values(version_num=terms.schema))
    await connection.run_sync(migrations.upgrade)


async def _settle(connection: AsyncConnection, *, terms: Terms, store_id: bytes) -> Settled:
    await connection.execute(installation.update().values(store_id=store_id))
    await connection.execute(workers.delete())
    await connection.execute(
        agents.update().values(online=False, worker_id=None, generation=agents.c.generation + _GENERATIONS)
    )
    await _go_on_with_the_audit_log(connection, terms)
    replayed = await replay(connection, terms.since or ())
    knows_uses = terms.keep_tokens or (terms.since is not None and terms.tells_all)
    return Settled(store_id, replayed, 0 if knows_uses else await _revoke_usable_tokens(connection))


async def _go_on_with_the_audit_log(connection: AsyncConnection, terms: Terms) -> None:
    """Put back the entries that the copy does not have, and this restore behind them: the chain does not fork."""
    await _adopt(connection, terms.chain)
    moment = datetime.fromtimestamp(terms.copied_at_ms / 1000, UTC).isoformat(timespec="seconds")
    told = terms.since is not None and terms.tells_all
    await _record(connection, terms.actor, terms.unvouched, backup_of=moment, told=told)


async def _record(
    connection: AsyncConnection, actor: str, doubted: tuple[int, int], **details: Detail
) -> None:
    said = {**details, **unvouched(*doubted)}
    async with recording(connection):
        await append(connection, [Decision(Action.DATABASE_RESTORED, actor, details=said)])


async def _adopt(connection: AsyncConnection, chain: Sequence[Entry]) -> None:
    try:
        await adopt(connection, chain)
    except ChainMismatchError as error:
        raise BackupError(f"the audit files do not go on where the copy ends: {error}") from error


async def _revoke_usable_tokens(connection: AsyncConnection) -> int:
    usable = (
        tokens.c.revoked_at.is_(None),
        sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now_ms()),
        sa.or_(tokens.c.max_uses.is_(None), tokens.c.uses < tokens.c.max_uses),
    )
    reason = "the database was restored, and what was used of it since the backup is not known"
    revoking = tokens.update().where(*usable)
    done = await connection.execute(
        revoking.values(revoked_at=now_ms(), revoked_by=_ACTOR, revoked_reason=reason)
    )
    return done.rowcount

"""Enrolment tokens, and agents by their key: ``enrolment.ports.EnrolmentStore``.

Spending a use is one conditional UPDATE, and two Registers of one key meet at its unique index: no
number of parallel Registers admits more than a token allows, or one key twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.enrolment.model import (
    Application,
    Collision,
    EnrolledAgent,
    Findings,
    LeafRecord,
    NewAgent,
    NewKey,
    TokenRecord,
    TokenTerms,
)
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError, TokenNotRedeemedError, TooManyPendingError
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.agents import append_history
from ct_ops_server.store.database import Database
from ct_ops_server.store.presence import is_online
from ct_ops_server.store.schema import agent_tags, agents, leaves, now_ms, tokens, tombstones
from ct_ops_server.store.upsert import insert_if_absent
from ct_ops_server.store.values import (
    decode_tags,
    encode_strings,
    encode_tags,
    from_ms,
    maybe_from_ms,
    maybe_to_ms,
    to_ms,
)
from ct_ops_server.store.writer import GroupWriter

ADMISSION_ACTOR = "enrolment"
"""Who the first line of an agent's history names."""
KEY_ACTOR = "agent"
"""Who changes an agent's key: its holder."""

_MOST_PENDING = 1_000
"""Agents of one token that may wait for approval at the same time (rule 16)."""


class SqlEnrolmentStore:
    """``enrolment.ports.EnrolmentStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def create_token(
        self, token_id: str, digest: bytes, terms: TokenTerms, *, actor: str
    ) -> TokenRecord:
        """Insert a token. ``digest`` is SHA-256 of the secret; the secret never gets here."""
        values = _token_values(terms) | {"id": token_id, "digest": digest, "created_by": actor}
        statement = tokens.insert().values(**values, uses=0, created_at=now_ms()).returning(tokens)

        async def create(connection: AsyncConnection) -> TokenRecord:
            return _token_record((await connection.execute(statement)).one())

        return await self._writer.run(create)

    async def find_token(self, digest: bytes) -> TokenRecord | None:
        """Return the token with this digest, in whatever state."""
        async with self._database.reading() as connection:
            row = (await connection.execute(sa.select(tokens).where(tokens.c.digest == digest))).first()
        return None if row is None else _token_record(row)

    async def list_tokens(self) -> Sequence[TokenRecord]:
        """All tokens, youngest first."""
        statement = sa.select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.id)
        async with self._database.reading() as connection:
            return [_token_record(row) for row in await connection.execute(statement)]

    async def find_agent(self, key_id: str) -> EnrolledAgent | None:
        """Return the agent that holds this key."""
        async with self._database.reading() as connection:
            return await _find_agent(connection, key_id)

    async def look_up(self, application: Application) -> Findings:
        """Return everything that a verdict about the application needs, read at one moment."""
        async with self._database.reading() as connection:
            known = await _find_agent(connection, application.key_id)
            token = await _find_token(connection, application.token)
            if known is not None:
                return Findings(known=known, token=token)
            return Findings(
                token=token,
                collision=None if token is None else await _find_collision(connection, application),
                key_is_barred=await _is_barred(connection, application.key_id),
                leaf_agent_is_taken=await _is_taken(connection, application.leaf_agent_id),
            )

    async def admit(self, new: NewAgent, *, leaf: LeafRecord | None) -> None:
        """Spend one use of the token, insert the agent with its first history line, and its leaf: all or none.

        Raises:
            TokenNotRedeemedError: no use was left (checked by the spending statement itself).
            KeyAlreadyEnrolledError: the key, or the agent's id, is taken already.
            TooManyPendingError: the token has as many agents waiting as one may have.
        """

        async def admit(connection: AsyncConnection) -> None:
            # The key first: of two Registers with one key and one use, the slower one must hear that
            # its key is enrolled, not that its token is used up.
            await _insert_agent(connection, new)
            if new.token_id is not None:
                await _redeem(connection, new.token_id)
                await _limit_pending(connection, new)
            if leaf is not None:
                await _insert_leaf(connection, leaf)

        await self._writer.run(admit)

    async def replace_key(self, agent_id: str, old_key_id: str, key: NewKey, leaf: LeafRecord) -> bool:
        """Let an active agent's key be followed by another, certified by ``leaf``: all or none.

        Returns:
            False when the agent is not active with the old key any more.

        Raises:
            KeyAlreadyEnrolledError: the new key is, or was, another agent's.
        """
        held = (agents.c.id == agent_id, agents.c.key_id == old_key_id)
        active = agents.c.status == AgentStatus.ACTIVE.value
        values = {"key_id": key.key_id, "public_key_der": key.public_key_der}
        statement = agents.update().where(*held, active).values(values).returning(agents.c.id)

        async def replace(connection: AsyncConnection) -> bool:
            taken = await connection.scalar(sa.select(agents.c.id).where(agents.c.key_id == key.key_id))
            if taken is not None or await _is_barred(connection, key.key_id):
                raise KeyAlreadyEnrolledError
            if await connection.scalar(statement) is None:
                return False
            await _insert_leaf(connection, leaf)
            reason = f"key {old_key_id[:16]}… followed by {key.key_id[:16]}…"
            await append_history(
                connection, agent_id, status=AgentStatus.ACTIVE, actor=KEY_ACTOR, reason=reason
            )
            return True

        return await self._writer.run(replace)

    async def record_leaf(self, leaf: LeafRecord) -> None:
        """Remember an issued leaf of an agent that exists already."""

        async def record(connection: AsyncConnection) -> None:
            await _insert_leaf(connection, leaf)

        await self._writer.run(record)

    async def refresh_facts(self, agent_id: str, application: Application) -> None:
        """Store what a *proven* agent says about itself now (hostname, platform, claimed tags)."""
        statement = agents.update().where(agents.c.id == agent_id).values(_claims(application))

        async def refresh(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._writer.run(refresh)


_FIND_BY_KEY = (
    sa.select(
        agents.c.id,
        agents.c.status,
        agents.c.public_key_der,
        leaves.c.pem,
        leaves.c.sha256,
        leaves.c.issued_at,
        leaves.c.not_after,
        leaves.c.authority_sha256,
    )
    .select_from(agents.outerjoin(leaves, leaves.c.agent_id == agents.c.id))
    .where(agents.c.key_id == sa.bindparam("wanted_key"))
    .order_by(leaves.c.issued_at.desc(), leaves.c.not_after.desc())
    .limit(1)
)


_FIND_TOKEN = sa.select(tokens).where(tokens.c.digest == sa.bindparam("wanted_digest"))
_IS_BARRED = sa.select(tombstones.c.agent_id).where(
    tombstones.c.key_id == sa.bindparam("wanted_key"), tombstones.c.status == AgentStatus.REVOKED.value
)
_IS_TAKEN = sa.union_all(
    sa.select(agents.c.id).where(agents.c.id == sa.bindparam("wanted_id")),
    sa.select(tombstones.c.agent_id).where(tombstones.c.agent_id == sa.bindparam("wanted_id")),
)
_TWINS = (
    sa.select(
        agents.c.id,
        agents.c.hostname,
        agents.c.observed_address,
        agents.c.machine_id,
        is_online().label("is_online"),
    )
    .where(
        sa.or_(
            agents.c.hostname == sa.bindparam("wanted_hostname"),
            agents.c.machine_id == sa.bindparam("wanted_machine"),
        ),
        agents.c.status != AgentStatus.REVOKED.value,
    )
    .order_by(agents.c.id)
    .limit(100)
)


async def _find_agent(connection: AsyncConnection, key_id: str) -> EnrolledAgent | None:
    row = (await connection.execute(_FIND_BY_KEY, {"wanted_key": key_id})).first()
    return None if row is None else _enrolled_agent(row)


async def _find_token(connection: AsyncConnection, secret: str) -> TokenRecord | None:
    if not secret:
        return None
    row = (await connection.execute(_FIND_TOKEN, {"wanted_digest": secret_digest(secret)})).first()
    return None if row is None else _token_record(row)


async def _find_collision(connection: AsyncConnection, application: Application) -> Collision | None:
    """Return the most serious twin: a live one first, of those the one that is surest."""
    wanted = {"wanted_hostname": application.hostname, "wanted_machine": application.machine_id or None}
    twins = [_collision(row, application) for row in await connection.execute(_TWINS, wanted)]
    return max(twins, key=lambda twin: (twin.is_live_twin, twin.live, twin.same_machine), default=None)


def _collision(row: sa.Row[Any], application: Application) -> Collision:
    same_hostname = row.hostname == application.hostname
    return Collision(
        agent_id=row.id,
        live=bool(row.is_online),
        same_address=same_hostname and row.observed_address == application.observed_address,
        same_machine=bool(application.machine_id) and row.machine_id == application.machine_id,
    )


async def _is_barred(connection: AsyncConnection, key_id: str) -> bool:
    return (await connection.execute(_IS_BARRED, {"wanted_key": key_id})).first() is not None


async def _is_taken(connection: AsyncConnection, agent_id: str | None) -> bool:
    if agent_id is None:
        return False
    return (await connection.execute(_IS_TAKEN, {"wanted_id": agent_id})).first() is not None


async def _limit_pending(connection: AsyncConnection, new: NewAgent) -> None:
    if new.status is not AgentStatus.PENDING:
        return
    waiting = sa.select(sa.func.count()).where(
        agents.c.token_id == new.token_id, agents.c.status == AgentStatus.PENDING.value
    )
    if (await connection.scalar(waiting) or 0) > _MOST_PENDING:
        raise TooManyPendingError


async def _insert_agent(connection: AsyncConnection, new: NewAgent) -> None:
    application = new.application
    values = _claims(application) | {
        "id": new.id,
        "key_id": application.key_id,
        "public_key_der": application.public_key_der,
        "status": new.status.value,
        "created_at": now_ms(),
        "evidence": new.evidence,
        "generation": 0,
        "online": False,
        "token_id": new.token_id,
    }
    if await _is_taken(connection, new.id):
        raise KeyAlreadyEnrolledError
    insert = insert_if_absent(connection, agents, values, key="key_id").returning(agents.c.id)
    if await connection.scalar(insert) is None:
        raise KeyAlreadyEnrolledError
    # One value a key: of several, the last one said.
    tags = {tag.key: tag.value for tag in new.tags}
    if tags:
        rows = [{"agent_id": new.id, "key": key, "value": value} for key, value in tags.items()]
        await connection.execute(agent_tags.insert(), rows)
    reason = new.evidence or f"enrolment token {new.token_id}"
    await append_history(connection, new.id, status=new.status, actor=ADMISSION_ACTOR, reason=reason)


async def _insert_leaf(connection: AsyncConnection, leaf: LeafRecord) -> None:
    values = {
        "serial": leaf.serial,
        "agent_id": leaf.agent_id,
        "pem": leaf.pem,
        "sha256": leaf.sha256,
        "issued_at": to_ms(leaf.issued_at),
        "not_after": to_ms(leaf.not_after),
        "authority_sha256": leaf.authority_sha256,
    }
    # What has expired says nothing any more: an agent keeps two or three leaves, not forty.
    of_agent = leaves.c.agent_id == leaf.agent_id
    await connection.execute(leaves.delete().where(of_agent, leaves.c.not_after < values["issued_at"]))
    await connection.execute(leaves.insert().values(values))


async def _redeem(connection: AsyncConnection, token_id: str) -> None:
    unspent = sa.or_(tokens.c.max_uses.is_(None), tokens.c.uses < tokens.c.max_uses)
    unexpired = sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now_ms())
    statement = (
        tokens.update()
        .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None), unexpired, unspent)
        .values(uses=tokens.c.uses + 1)
        .returning(tokens.c.id)
    )
    if await connection.scalar(statement) is None:
        raise TokenNotRedeemedError


def _claims(application: Application) -> dict[str, Any]:
    """Return the columns that come from what a host says about itself, and from where."""
    return {
        "hostname": application.hostname,
        "os": application.os,
        "os_version": application.os_version,
        "arch": application.arch,
        "agent_version": application.agent_version,
        "claimed_addresses": encode_strings(application.ip_addresses),
        "claimed_tags": encode_tags(application.claimed_tags),
        "observed_address": application.observed_address,
        "machine_id": application.machine_id or None,
    }


def _token_values(terms: TokenTerms) -> dict[str, Any]:
    return {
        "label": terms.label,
        "auto_approve": terms.auto_approve,
        "max_uses": terms.max_uses,
        "expires_at": maybe_to_ms(terms.expires_at),
        "tags": encode_tags(terms.tags),
    }


def _token_record(row: sa.Row[Any]) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        terms=TokenTerms(
            label=row.label,
            auto_approve=bool(row.auto_approve),
            max_uses=row.max_uses,
            expires_at=maybe_from_ms(row.expires_at),
            tags=decode_tags(row.tags),
        ),
        uses=row.uses,
        created_at=from_ms(row.created_at),
        created_by=row.created_by,
        revoked_at=maybe_from_ms(row.revoked_at),
    )


def _enrolled_agent(row: Any) -> EnrolledAgent:
    return EnrolledAgent(
        id=row.id,
        status=AgentStatus(row.status),
        leaf_pem=row.pem,
        leaf_sha256=row.sha256,
        leaf_issued_at=maybe_from_ms(row.issued_at),
        leaf_not_after=maybe_from_ms(row.not_after),
        leaf_authority_sha256=row.authority_sha256,
        public_key_der=row.public_key_der,
    )

"""Enrolment tokens, and agents by their key: ``enrolment.ports.EnrolmentStore``.

Spending a use is one conditional UPDATE, and two Registers of one key meet at its unique index: no
number of parallel Registers admits more than a token allows, or one key twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.enrolment.model import (
    Application,
    Collision,
    EnrolledAgent,
    LeafRecord,
    NewAgent,
    TokenRecord,
    TokenTerms,
)
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError, TokenNotRedeemedError
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.agents import append_history
from ct_ops_server.store.database import Database
from ct_ops_server.store.presence import is_online
from ct_ops_server.store.schema import agent_tags, agents, leaves, now_ms, tokens
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
            row = (await connection.execute(_FIND_BY_KEY, {"wanted_key": key_id})).first()
        return None if row is None else _enrolled_agent(row)

    async def find_collision(self, hostname: str, observed_address: str) -> Collision | None:
        """Return the most serious other holder of this hostname: live and same address first."""
        statement = (
            sa.select(agents.c.id, agents.c.observed_address, is_online().label("is_online"))
            .where(agents.c.hostname == hostname, agents.c.status != AgentStatus.REVOKED.value)
            .order_by(agents.c.id)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        holders = [
            Collision(row.id, bool(row.is_online), row.observed_address == observed_address) for row in rows
        ]
        return max(holders, key=lambda holder: (holder.live, holder.same_address), default=None)

    async def admit(self, new: NewAgent, *, token_id: str, leaf: LeafRecord | None) -> None:
        """Spend one use of the token, insert the agent with its first history line, and its leaf: all or none.

        Raises:
            TokenNotRedeemedError: no use was left (checked by the spending statement itself).
            KeyAlreadyEnrolledError: the key has an agent already.
        """

        async def admit(connection: AsyncConnection) -> None:
            # The key first: of two Registers with one key and one use, the slower one must hear that
            # its key is enrolled, not that its token is used up.
            await _insert_agent(connection, new)
            await _redeem(connection, token_id)
            if leaf is not None:
                await _insert_leaf(connection, leaf)

        await self._writer.run(admit)

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
    }
    insert = insert_if_absent(connection, agents, values, key="key_id").returning(agents.c.id)
    if await connection.scalar(insert) is None:
        raise KeyAlreadyEnrolledError
    # One value a key: of several, the last one said.
    tags = {tag.key: tag.value for tag in new.tags}
    if tags:
        rows = [{"agent_id": new.id, "key": key, "value": value} for key, value in tags.items()]
        await connection.execute(agent_tags.insert(), rows)
    reason = new.evidence or "enrolment token"
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

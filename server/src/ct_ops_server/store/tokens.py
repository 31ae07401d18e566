"""Enrolment tokens as operators handle them: ``enrolment.token_ports.TokenStore``.

Redeeming is not here: a use is spent in the transaction that inserts the agent (``admissions``).
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.enrolment import decisions
from ct_ops_server.enrolment.model import AdmittedAgent, TokenRecord, TokenTerms
from ct_ops_server.store.audit import append
from ct_ops_server.store.database import Database
from ct_ops_server.store.schema import agents, now_ms, tokens
from ct_ops_server.store.upsert import insert_if_absent
from ct_ops_server.store.values import from_ms, status_from, token_from, token_values
from ct_ops_server.store.writer import GroupWriter

_MOST_FOUND = 10
"""Enough to say that a selector is ambiguous, and between which."""

_YOUNGEST_FIRST = (tokens.c.created_at.desc(), tokens.c.id)


class SqlTokenStore:
    """``enrolment.token_ports.TokenStore``."""

    def __init__(self, database: Database, writer: GroupWriter) -> None:
        self._database = database
        self._writer = writer

    async def create_token(
        self,
        token_id: str,
        digest: bytes,
        terms: TokenTerms,
        *,
        actor: str,
        uses: int = 0,
        is_imported: bool = False,
    ) -> TokenRecord | None:
        """Insert a token; None, and nothing is changed, when there is one with this digest already."""
        born = {"id": token_id, "digest": digest, "created_by": actor, "created_at": now_ms(), "uses": uses}
        values = token_values(terms) | born
        made = decisions.token_made(token_id, terms, actor=actor)
        if is_imported:
            made = decisions.token_imported(token_id, terms, actor=actor, uses=uses)

        async def create(connection: AsyncConnection) -> TokenRecord | None:
            insert = insert_if_absent(connection, tokens, values, key="digest").returning(tokens)
            row = (await connection.execute(insert)).first()
            if row is None:
                return None
            await append(connection, [made])
            return token_from(row)

        return await self._writer.run(create)

    async def find_token(self, digest: bytes) -> TokenRecord | None:
        """Return the token with this digest, in whatever state."""
        async with self._database.reading() as connection:
            row = (await connection.execute(sa.select(tokens).where(tokens.c.digest == digest))).first()
        return None if row is None else token_from(row)

    async def find_tokens(self, selector: str) -> Sequence[TokenRecord]:
        """Tokens whose id is ``selector``, else whose id starts with it, else with exactly this label."""
        starts = sa.func.substr(tokens.c.id, 1, len(selector)) == selector
        conditions = [tokens.c.id == selector, starts, tokens.c.label == selector] if selector else []
        async with self._database.reading() as connection:
            for condition in conditions:
                statement = sa.select(tokens).where(condition).order_by(*_YOUNGEST_FIRST).limit(_MOST_FOUND)
                if found := [token_from(row) for row in await connection.execute(statement)]:
                    return found
        return []

    async def list_tokens(self) -> Sequence[TokenRecord]:
        """All tokens, youngest first."""
        statement = sa.select(tokens).order_by(*_YOUNGEST_FIRST)
        async with self._database.reading() as connection:
            return [token_from(row) for row in await connection.execute(statement)]

    async def revoke_token(self, token_id: str, *, actor: str, reason: str) -> bool:
        """Revoke a token in one statement; False when it was revoked before, or does not exist."""
        statement = (
            tokens.update()
            .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
            .values(revoked_at=now_ms(), revoked_by=actor, revoked_reason=reason)
            .returning(tokens.c.id)
        )

        async def revoke(connection: AsyncConnection) -> bool:
            if await connection.scalar(statement) is None:
                return False
            await append(connection, [decisions.token_revoked(token_id, actor=actor, reason=reason)])
            return True

        return await self._writer.run(revoke)

    async def admitted_agents(self, token_id: str, *, limit: int) -> Sequence[AdmittedAgent]:
        """Agents that the token admitted and that were not deleted since, youngest first."""
        statement = (
            sa.select(agents.c.id, agents.c.hostname, agents.c.status, agents.c.created_at)
            .where(agents.c.token_id == token_id)
            .order_by(agents.c.created_at.desc(), agents.c.id)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).all()
        return [
            AdmittedAgent(row.id, row.hostname, status_from(row.status), from_ms(row.created_at))
            for row in rows
        ]

"""Agents by their key: ``enrolment.ports.EnrolmentStore``.

What a Register reads and writes is shared by all that wait: see ``lookups`` and ``admissions``.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.authority.ca import LEAF_LIFETIME
from ct_ops_server.enrolment import decisions
from ct_ops_server.enrolment.model import (
    Application,
    EnrolledAgent,
    Findings,
    LeafRecord,
    NewAgent,
    NewKey,
    TokenRecord,
)
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store import key_bars
from ct_ops_server.store.admissions import PENDING_OF_A_TOKEN, Admission, AdmitAgents
from ct_ops_server.store.agents import append_history
from ct_ops_server.store.audit import append
from ct_ops_server.store.database import Database
from ct_ops_server.store.lookups import LookUps
from ct_ops_server.store.schema import agents, leaves, tombstones
from ct_ops_server.store.sides import note_key_followed
from ct_ops_server.store.tokens import SqlTokenStore
from ct_ops_server.store.values import claims_of, enrolled_agent_from, leaf_values, to_ms
from ct_ops_server.store.writer import GroupWriter

KEY_ACTOR = "agent"
"""Who changes an agent's key: its holder."""


class SqlEnrolmentStore:
    """``enrolment.ports.EnrolmentStore``."""

    def __init__(
        self, database: Database, writer: GroupWriter, *, pending_of_a_token: int = PENDING_OF_A_TOKEN
    ) -> None:
        self._database = database
        self._writer = writer
        self._look_ups, self._admit = LookUps(database), AdmitAgents(pending_of_a_token)
        self._tokens = SqlTokenStore(database, writer)

    async def find_token(self, digest: bytes) -> TokenRecord | None:
        """Return the token with this digest, in whatever state."""
        return await self._tokens.find_token(digest)

    async def find_agent(self, key_id: str) -> EnrolledAgent | None:
        """Return the agent that holds this key."""
        async with self._database.reading() as connection:
            return await _find_agent(connection, key_id)

    async def look_up(self, application: Application) -> Findings:
        """Return everything that a verdict about the application needs, read at one moment."""
        return await self._look_ups.find(application)

    async def admit(self, new: NewAgent, *, leaf: LeafRecord | None) -> None:
        """Spend one use of the token, insert the agent with its first history line, and its leaf: all or none.

        Raises:
            TokenNotRedeemedError: no use was left (checked by the spending statement itself).
            KeyAlreadyEnrolledError: the key, or the agent's id, is taken already.
            TooManyPendingError: the token has as many agents waiting as one may have.
        """
        await self._writer.submit(self._admit, Admission(new, leaf), key=new.application.key_id)

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
            await note_key_followed(connection, agent_id, old_key_id)
            reason = f"key {old_key_id[:16]}… followed by {key.key_id[:16]}…"
            await append_history(
                connection, agent_id, status=AgentStatus.ACTIVE, actor=KEY_ACTOR, reason=reason
            )
            await append(connection, [decisions.key_replaced(agent_id, old_key_id, key, leaf)])
            return True

        return await self._writer.run(replace)

    async def record_leaf(self, leaf: LeafRecord) -> None:
        """Remember an issued leaf of an agent that exists already."""

        async def record(connection: AsyncConnection) -> None:
            await _insert_leaf(connection, leaf)
            await append(connection, [decisions.leaf_given(leaf, leaf.occasion)])

        await self._writer.run(record)

    async def refresh_facts(self, agent_id: str, application: Application) -> None:
        """Store what a *proven* agent says about itself now (hostname, platform, claimed tags)."""
        statement = agents.update().where(agents.c.id == agent_id).values(claims_of(application))

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
_IS_BARRED = sa.select(tombstones.c.agent_id).where(
    tombstones.c.key_id == sa.bindparam("wanted_key"), tombstones.c.status == AgentStatus.REVOKED.value
)


async def _find_agent(connection: AsyncConnection, key_id: str) -> EnrolledAgent | None:
    row = (await connection.execute(_FIND_BY_KEY, {"wanted_key": key_id})).first()
    return None if row is None else enrolled_agent_from(row)


async def _is_barred(connection: AsyncConnection, key_id: str) -> bool:
    if await key_bars.is_barred(connection, key_id):
        return True
    return (await connection.execute(_IS_BARRED, {"wanted_key": key_id})).first() is not None


async def _insert_leaf(connection: AsyncConnection, leaf: LeafRecord) -> None:
    # What has expired says nothing any more: an agent keeps two or three leaves, not forty. Neither does one that was
    # signed while the server's clock was far ahead: it would be the youngest for years.
    values = leaf_values(leaf)
    of_agent = leaves.c.agent_id == leaf.agent_id
    has_expired = leaves.c.not_after < values["issued_at"]
    is_of_the_future = leaves.c.issued_at > to_ms(leaf.issued_at + LEAF_LIFETIME)
    await connection.execute(leaves.delete().where(of_agent, sa.or_(has_expired, is_of_the_future)))
    await connection.execute(leaves.insert().values(values))

"""Admissions: all of a group with a handful of statements, and never more than a token allows.

Under the lock of its row a token's free uses are counted, given to the applications in order, and
spent by as many as were inserted: no number of parallel Registers, on whatever number of workers,
admits more than the token says, or one key twice. A token that admits any number of hosts at once has
nothing to be counted, so two workers hold its row only for the moment in which its uses are added.

Whoever finds that another worker was faster (with the key, or by revoking the token) has the whole
transaction tried again, and then reads what that one did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.enrolment import decisions
from ct_ops_server.enrolment.model import LeafRecord, NewAgent
from ct_ops_server.enrolment.ports import KeyAlreadyEnrolledError, TokenNotRedeemedError, TooManyPendingError
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.sides import Proof, SideLog, quarantined
from ct_ops_server.store.audit import append
from ct_ops_server.store.faults import OvertakenError, is_duplicate
from ct_ops_server.store.grouping import Failed
from ct_ops_server.store.key_bars import SPLIT
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import (
    Integer64,
    agent_tags,
    agents,
    leaves,
    now_ms,
    status_history,
    tokens,
    tombstones,
)
from ct_ops_server.store.side_tables import barred_keys
from ct_ops_server.store.sides import store_logs
from ct_ops_server.store.values import claims_of, leaf_values

ADMISSION_ACTOR = decisions.ENROLMENT
"""Who the first line of an agent's history names."""

PENDING_OF_A_TOKEN = 1_000
"""Agents of one token that may wait for approval at the same time (rule 16)."""


@dataclass(frozen=True, slots=True)
class Admission:
    """An agent to be inserted, with its first leaf if it has one."""

    new: NewAgent
    leaf: LeafRecord | None


@dataclass(slots=True)
class _Allowance:
    """What is left of a token, in this transaction."""

    uses: int | None
    """None: any number."""
    pending: int
    """Agents that may still be left waiting."""


_wanted = row_set("wanted", number=Integer64, key_id=sa.Text(), agent_id=sa.Text())
_spent = row_set("spent", token_id=sa.Text(), uses=Integer64)

_TAKEN = sa.select(_wanted.c.number).where(
    sa.or_(
        sa.exists().where(agents.c.key_id == _wanted.c.key_id),
        sa.exists().where(agents.c.id == _wanted.c.agent_id),
        sa.exists().where(tombstones.c.agent_id == _wanted.c.agent_id),
        sa.exists().where(
            tombstones.c.key_id == _wanted.c.key_id, tombstones.c.status == AgentStatus.REVOKED.value
        ),
        sa.exists().where(
            barred_keys.c.key_id == _wanted.c.key_id,
            # The agent itself may come back with a key that was split, where a restored database has forgotten it.
            sa.not_(sa.and_(barred_keys.c.why == SPLIT, barred_keys.c.agent_id == _wanted.c.agent_id)),
        ),
    )
)
_is_live = sa.and_(
    tokens.c.revoked_at.is_(None), sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now_ms())
)
_TOKENS = (
    sa.select(tokens.c.id, tokens.c.max_uses, tokens.c.uses)
    .where(tokens.c.id.in_(sa.select(_spent.c.token_id)), _is_live)
    .order_by(tokens.c.id)
)
_LOCK_TOKENS = _TOKENS.with_for_update()
_PENDING = (
    sa.select(agents.c.token_id, sa.func.count().label("waiting"))
    .where(agents.c.token_id.in_(sa.select(_spent.c.token_id)), agents.c.status == AgentStatus.PENDING.value)
    .group_by(agents.c.token_id)
)
_SPEND = (
    tokens.update()
    .where(tokens.c.id == _spent.c.token_id, _is_live)
    .values(uses=tokens.c.uses + _spent.c.uses)
    .returning(tokens.c.id)
)


_INSERT = agents.insert().values(created_at=now_ms())


class AdmitAgents:
    """The kind of all admissions; submitted under the key's id, so that a group has each key once."""

    name = "admission"

    def __init__(self, pending_of_a_token: int) -> None:
        self._pending_of_a_token = pending_of_a_token

    async def apply(
        self, connection: AsyncConnection, writes: Sequence[Admission]
    ) -> Sequence[Failed | None]:
        """Store the admissions, one outcome each."""
        outcomes = await _judge(connection, writes, self._pending_of_a_token)
        made = [write for number, write in enumerate(writes) if number not in outcomes]
        await _insert_agents(connection, [write.new for write in made])
        await _insert_belongings(connection, made)
        await append(connection, [decisions.admitted(write.new, write.leaf) for write in made])
        await _spend(connection, made)
        return [outcomes.get(number) for number in range(len(writes))]


async def _judge(
    connection: AsyncConnection, writes: Sequence[Admission], pending_of_a_token: int
) -> dict[int, Failed]:
    """Return who is not admitted, and why. A key that is enrolled hears that before anything of its token."""
    taken = set(await connection.scalars(_TAKEN, _bind_wanted([write.new for write in writes])))
    outcomes = {number: Failed(KeyAlreadyEnrolledError()) for number in taken}
    shown = {write.new.token_id for write in writes} - {None}
    waits = any(write.new.status is AgentStatus.PENDING for write in writes)
    allowances = await _read_tokens(connection, shown, pending_of_a_token if waits else None)
    for number, write in enumerate(writes):
        if number not in outcomes and write.new.token_id is not None:
            error = _claim(allowances.get(write.new.token_id), write.new.status)
            if error is not None:
                outcomes[number] = Failed(error)
    return outcomes


def _claim(allowance: _Allowance | None, status: AgentStatus) -> Exception | None:
    """Take one use; return why there is none."""
    if allowance is None or allowance.uses == 0:
        return TokenNotRedeemedError()
    if status is AgentStatus.PENDING:
        if allowance.pending <= 0:
            return TooManyPendingError()
        allowance.pending -= 1
    if allowance.uses is not None:
        allowance.uses -= 1
    return None


async def _read_tokens(
    connection: AsyncConnection, ids: set[Any], pending_of_a_token: int | None
) -> Mapping[str, _Allowance]:
    """Return what is left of each live token; of what has an end nobody else takes any before the commit.

    ``pending_of_a_token``: None when nobody of the group is to wait, so that nobody need be counted.
    """
    if not ids:
        return {}
    bound = _bind_spent(dict.fromkeys(ids, 0))
    rows: Sequence[Any] = ()
    if pending_of_a_token is None:
        rows = (await connection.execute(_TOKENS, bound)).all()
    if pending_of_a_token is not None or any(row.max_uses is not None for row in rows):
        rows = (await connection.execute(_LOCK_TOKENS, bound)).all()
    places: Mapping[str, int] = {}
    if pending_of_a_token is not None:
        waiting = await connection.execute(_PENDING, bound)
        places = {row.token_id: pending_of_a_token - row.waiting for row in waiting}
    return {
        row.id: _Allowance(
            None if row.max_uses is None else max(0, row.max_uses - row.uses),
            places.get(row.id, pending_of_a_token or 0),
        )
        for row in rows
    }


async def _insert_agents(connection: AsyncConnection, agents_to_be: Sequence[NewAgent]) -> None:
    if not agents_to_be:
        return
    try:
        await connection.execute(_INSERT, [_agent_row(new) for new in agents_to_be])
    except IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise OvertakenError("another worker was faster with a key") from error


async def _insert_belongings(connection: AsyncConnection, made: Sequence[Admission]) -> None:
    """Insert tags, the first line of the history, and the leaves."""
    tags = [
        {"agent_id": write.new.id, "key": key, "value": value}
        for write in made
        # One value a key: of several, the last one said.
        for key, value in {tag.key: tag.value for tag in write.new.tags}.items()
    ]
    first_leaves = [leaf_values(write.leaf) for write in made if write.leaf is not None]
    history = [_history_row(write.new) for write in made]
    if tags:
        await connection.execute(agent_tags.insert(), tags)
    if history:
        await connection.execute(status_history.insert().values(at=now_ms()), history)
    if first_leaves:
        await connection.execute(leaves.insert(), first_leaves)
    split = [write.new.id for write in made if write.new.status is AgentStatus.QUARANTINED]
    if split:
        at_ms = await connection.scalar(sa.select(now_ms()))
        log = quarantined(SideLog(), Proof.SPLIT_AFTER_BACKUP, at_ms or 0)
        await store_logs(connection, dict.fromkeys(split, log))


async def _spend(connection: AsyncConnection, made: Sequence[Admission]) -> None:
    spent = Counter(write.new.token_id for write in made if write.new.token_id is not None)
    if spent and len((await connection.scalars(_SPEND, _bind_spent(spent))).all()) < len(spent):
        raise OvertakenError("a token has ended meanwhile")


def _agent_row(new: NewAgent) -> dict[str, Any]:
    application = new.application
    return claims_of(application) | {
        "id": new.id,
        "key_id": application.key_id,
        "public_key_der": application.public_key_der,
        "status": new.status.value,
        "evidence": new.evidence,
        "generation": 0,
        "online": False,
        "token_id": new.token_id,
    }


def _history_row(new: NewAgent) -> dict[str, Any]:
    return {
        "agent_id": new.id,
        "status": new.status.value,
        "actor": ADMISSION_ACTOR,
        "reason": new.evidence or f"enrolment token {new.token_id}",
    }


def _bind_wanted(agents_to_be: Sequence[NewAgent]) -> dict[str, str]:
    rows = [
        {"number": number, "key_id": new.application.key_id, "agent_id": new.id}
        for number, new in enumerate(agents_to_be)
    ]
    return bind_rows("wanted", rows)


def _bind_spent(uses: Mapping[Any, int]) -> dict[str, str]:
    return bind_rows("spent", [{"token_id": each, "uses": uses[each]} for each in sorted(uses)])

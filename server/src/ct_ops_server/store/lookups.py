"""What the store knows about the applications that wait, read together.

Registers come in bursts: a site is rolled out, a server comes back. One read at a time is under way;
whoever comes meanwhile is answered by the next one, all of them by the same few statements. A single
Register waits for nobody; in a burst reads may take only their share of the time. So the price of a read is
shared under load, exactly as that of a commit is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.enrolment.model import Application, Collision, EnrolledAgent, Findings, TokenRecord
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.store.database import Database
from ct_ops_server.store.grouping import Pace, WriterLimits
from ct_ops_server.store.key_bars import FOLLOWED, SPLIT
from ct_ops_server.store.presence import is_online
from ct_ops_server.store.rowset import bind_rows, row_set
from ct_ops_server.store.schema import Integer64, agents, leaves, tokens, tombstones
from ct_ops_server.store.side_tables import barred_keys
from ct_ops_server.store.values import enrolled_agent_from, token_from

_MOST_AT_ONCE = 500
_PACE = WriterLimits(gather_s=0.02, free_commits_s=0.02)
"""Reads of a burst: a fifth of the time, and nobody waits longer than 20 ms for company."""
_Waiting = tuple[Application, "asyncio.Future[Findings]"]

_applied = row_set(
    "applied",
    number=Integer64,
    key_id=sa.Text(),
    hostname=sa.Text(),
    address=sa.Text(),
    machine_id=sa.Text(),
    leaf_agent_id=sa.Text(),
    presented=sa.Text(),
)
_same_address = sa.and_(
    agents.c.hostname == _applied.c.hostname,
    agents.c.observed_address == _applied.c.address,
    _applied.c.address != "",  # what was carried here came from no address, so two of them share none
)
_same_machine = sa.func.coalesce(agents.c.machine_id == _applied.c.machine_id, sa.false())
_live_twin = sa.and_(is_online(), sa.or_(_same_address, _same_machine))
_seriousness = sa.func.row_number().over(
    partition_by=_applied.c.number,
    order_by=[
        sa.case((_live_twin, 0), else_=1),
        sa.case((is_online(), 0), else_=1),
        sa.case((_same_machine, 0), else_=1),
        agents.c.id,
    ],
)
_TWINS = (
    sa.select(
        _applied.c.number,
        agents.c.id,
        is_online().label("live"),
        _same_address.label("same_address"),
        _same_machine.label("same_machine"),
        _seriousness.label("place"),
    )
    .where(
        sa.or_(agents.c.hostname == _applied.c.hostname, agents.c.machine_id == _applied.c.machine_id),
        agents.c.status != AgentStatus.REVOKED.value,
    )
    .subquery()
)
_MOST_SERIOUS = sa.select(_TWINS).where(_TWINS.c.place == 1)
_KNOWN = (
    sa.select(
        _applied.c.number,
        agents.c.id,
        agents.c.status,
        agents.c.public_key_der,
        leaves.c.pem,
        leaves.c.sha256,
        leaves.c.issued_at,
        leaves.c.not_after,
        leaves.c.authority_sha256,
    )
    .select_from(
        agents.join(_applied, agents.c.key_id == _applied.c.key_id).outerjoin(
            leaves, leaves.c.agent_id == agents.c.id
        )
    )
    .order_by(leaves.c.issued_at, leaves.c.not_after)
)
_TOKEN = sa.select(tokens).where(tokens.c.digest == sa.bindparam("wanted_digest"))
_is_barred = sa.or_(
    sa.exists().where(
        tombstones.c.key_id == _applied.c.key_id, tombstones.c.status == AgentStatus.REVOKED.value
    ),
    sa.exists().where(barred_keys.c.key_id == _applied.c.key_id, barred_keys.c.why.notin_((SPLIT, FOLLOWED))),
)
_is_split = sa.and_(barred_keys.c.key_id == _applied.c.presented, barred_keys.c.why.in_((SPLIT, FOLLOWED)))
_split_from = sa.select(barred_keys.c.agent_id).where(_is_split).scalar_subquery()
_split_is_open = sa.exists().where(_is_split, barred_keys.c.why == SPLIT)
_is_taken = sa.or_(
    sa.exists().where(agents.c.id == _applied.c.leaf_agent_id),
    sa.exists().where(tombstones.c.agent_id == _applied.c.leaf_agent_id),
)
_PAST = sa.select(
    _applied.c.number,
    _is_barred.label("is_barred"),
    _is_taken.label("is_taken"),
    _split_from.label("split_from"),
    _split_is_open.label("split_is_open"),
)


class LookUps:
    """Answers look-ups, as many as wait with one read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._reading: asyncio.Task[None] | None = None
        self._pace = Pace(_PACE)

    async def find(self, application: Application) -> Findings:
        """Return what the store knows, read after this call.

        Raises:
            StoreError: the store did not answer.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((application, answer))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_all(), name="store: look-ups")
        found: Findings = await answer
        return found

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._pace.pause(now_s=time.monotonic()))
                batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
                await self._answer([one for one in batch if not one[1].done()])
        finally:
            self._reading = None

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        began_s = time.monotonic()
        try:
            found = await self._read([application for application, _ in batch])
            ended_s = time.monotonic()
            self._pace.spent(ended_s - began_s, now_s=ended_s)
        except StoreUnavailableError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - one application may be to blame: the others shall not suffer
            if len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:
                await self._answer([one])
        else:
            for (_, answer), findings in zip(batch, found, strict=True):
                if not answer.done():
                    answer.set_result(findings)

    async def _read(self, applications: Sequence[Application]) -> list[Findings]:
        async with self._database.reading() as connection:
            known = await _read_known(connection, applications)
            invited = await _read_tokens(connection, {one.token for one in applications if one.token})
            unknown = [number for number in range(len(applications)) if number not in known]
            twins, past = await _read_strangers(connection, applications, unknown)
        return [
            Findings(
                known=known.get(number),
                token=invited.get(application.token),
                collision=twins.get(number),
                key_is_barred=number in past and bool(past[number].is_barred),
                leaf_agent_is_taken=number in past and bool(past[number].is_taken),
                split_from=past[number].split_from if number in past else None,
                split_is_open=number in past and bool(past[number].split_is_open),
            )
            for number, application in enumerate(applications)
        ]


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)


async def _read_known(
    connection: AsyncConnection, applications: Sequence[Application]
) -> dict[int, EnrolledAgent]:
    """Return the agents that hold the keys, each with its youngest leaf: the later row wins."""
    rows = await connection.execute(_KNOWN, _bind(applications, range(len(applications))))
    return {row.number: enrolled_agent_from(row) for row in rows}


async def _read_tokens(connection: AsyncConnection, secrets: set[str]) -> dict[str, TokenRecord]:
    found = {}
    for secret in secrets:  # of a burst nearly all show the same one
        row = (await connection.execute(_TOKEN, {"wanted_digest": secret_digest(secret)})).first()
        if row is not None:
            found[secret] = token_from(row)
    return found


async def _read_strangers(
    connection: AsyncConnection, applications: Sequence[Application], unknown: Sequence[int]
) -> tuple[Mapping[int, Collision], Mapping[int, Any]]:
    """Return the most serious twin, and what is left of the past, of each unknown key."""
    if not unknown:
        return {}, {}
    bound = _bind(applications, unknown)
    twins = {
        row.number: Collision(row.id, bool(row.live), bool(row.same_address), bool(row.same_machine))
        for row in await connection.execute(_MOST_SERIOUS, bound)
    }
    past = {row.number: row for row in await connection.execute(_PAST, bound)}
    return twins, past


def _bind(applications: Sequence[Application], numbers: Sequence[int]) -> dict[str, str]:
    rows = [
        {
            "number": number,
            "key_id": applications[number].key_id,
            "hostname": applications[number].hostname,
            "address": applications[number].observed_address,
            "machine_id": applications[number].machine_id or None,
            "leaf_agent_id": applications[number].leaf_agent_id,
            "presented": applications[number].presented_key_id or applications[number].key_id,
        }
        for number in numbers
    ]
    return bind_rows("applied", rows)

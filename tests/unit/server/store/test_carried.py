"""Carried requests in the database: each reply stands in the audit log, and ids are kept as long as requests are young."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import START, chained
from ct_ops_server.backup.since import event_of
from ct_ops_server.enrolment.carried import FUTURE_BORNE, OLDEST
from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.store.carried_tables import carried_requests
from ct_ops_server.store.forgetting import CARRIED_KEEP, Forgetting
from ct_ops_server.store.opening import Store
from ct_ops_server.store.replaying import RequestAnswered
from ct_ops_server.store.schema import now_ms
from ct_ops_server.store.upkeep import Upkeep

ANSWERED = AnsweredRequest(
    request_id="0" * 32, digest=b"d" * 32, key_id="key-a", agent_id="a", leaf_sha256=b"l" * 32, actor="anna"
)


async def test_every_reply_stands_in_the_audit_log_and_a_replay_does_not(store: Store) -> None:
    """Who had it signed, for whom, what was given; and that the second one was a copy."""
    await store.carried.record_answered(ANSWERED)
    await store.carried.record_answered(replace(ANSWERED, actor="bob"))
    await store.carried.record_answered(replace(ANSWERED, leaf_sha256=b"m" * 32, actor="mallory"))
    entries = await store.audit.entries_after(0, limit=10)

    assert [("enrolment.signed", "anna", "a"), ("enrolment.signed", "bob", "a")] == [
        (entry.action, entry.actor, entry.agent) for entry in entries
    ]
    assert [False, True] == [entry.details["again"] for entry in entries]
    assert (ANSWERED.request_id, "key-a", (b"l" * 32).hex()) == (
        entries[0].subject,
        entries[0].details["key_id"],
        entries[0].details["leaf_sha256"],
    )


async def test_what_the_audit_log_says_of_a_reply_is_enough_to_spend_its_id_again(store: Store) -> None:
    """In a database that was restored from before it."""
    await store.carried.record_answered(ANSWERED)
    (entry,) = await store.audit.entries_after(0, limit=10)

    assert event_of(entry) == RequestAnswered(ANSWERED, entry.at_ms)


def test_an_entry_without_its_digests_is_no_event() -> None:
    """Of a version that wrote less: it is left out, and stops no restore."""
    decision = Decision(Action.ENROLMENT_SIGNED, "anna", agent="a", details={"request_sha256": "no hex"})
    (entry,) = chained([decision], START, at_ms=5)

    assert event_of(entry) is None


def test_an_id_is_kept_for_longer_than_its_request_is_young() -> None:
    """Else a copy would find it forgotten."""
    assert CARRIED_KEEP > OLDEST + FUTURE_BORNE


async def test_an_id_is_forgotten_when_its_request_would_be_too_old(store: Store) -> None:
    """And a younger one is kept."""
    for number, age in enumerate((CARRIED_KEEP - timedelta(hours=1), CARRIED_KEEP + timedelta(hours=1))):
        await store.carried.record_answered(replace(ANSWERED, request_id=f"{number:032x}"))
        await make_older(store, f"{number:032x}", age)
    upkeep = Upkeep(store.database, store.writer, rest=0)
    async with upkeep.alone():
        await Forgetting(upkeep).make_pass()

    assert await store.carried.find_answered(f"{0:032x}") is not None
    assert await store.carried.find_answered(f"{1:032x}") is None


async def make_older(store: Store, request_id: str, age: timedelta) -> None:
    """Let a request have been answered earlier: the clock is the database's."""

    async def write(connection: AsyncConnection) -> None:
        moment = now_ms() - sa.literal(age // timedelta(milliseconds=1))
        of_this = carried_requests.c.request_id == request_id
        await connection.execute(carried_requests.update().where(of_this).values(answered_at=moment))

    await store.writer.run(write)

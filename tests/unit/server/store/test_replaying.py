"""What was decided after a copy was made, decided again: on both databases, and as often as one likes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from contract.values import APPLICATION, create_token, new_agent
from ct_ops_server.audit.entries import Link
from ct_ops_server.audit.verification import breaks
from ct_ops_server.backup.since import event_of
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.audit_reading import SqlAuditStore
from ct_ops_server.store.backup import back_up, restore
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.replaying import (
    AgentApproved,
    AgentDeleted,
    AgentRevoked,
    Event,
    KeyReplaced,
    KeyShared,
    PlaceTaken,
    Said,
    Subject,
    TokenRevoked,
    TokenSpent,
    replay,
)
from ct_ops_server.store.settling import Told, decide_again
from databases import PostgresServer

SAID = Said("alice", "left", 1_000)
ACTIVE, PENDING, REVOKED = AgentStatus.ACTIVE, AgentStatus.PENDING, AgentStatus.REVOKED


async def fill(store: Store, **statuses: AgentStatus) -> str:
    """Admit agents with these statuses; return the id of the token that they used."""
    token = await create_token(store.tokens)
    for agent_id, status in statuses.items():
        application = replace(APPLICATION, key_id=f"key-{agent_id}", hostname=agent_id)
        new = new_agent(agent_id, status=status, application=application, token_id=token)
        await store.enrolment.admit(new, leaf=None)
    return token


async def again(store: Store, *events: Event) -> None:
    """Replay twice: a restore that was interrupted is done again."""
    for _ in range(2):
        async with store.database.writing() as connection:
            await replay(connection, events)


async def statuses(store: Store) -> dict[str, AgentStatus]:
    return {agent.id: agent.status for agent in await store.agents.list_agents()}


async def test_the_revoked_and_the_approved_are_so_again_with_a_line_of_history(database_url: str) -> None:
    """By whom and when, as it was; twice is once."""
    async with open_store(database_url) as store:
        await fill(store, a=ACTIVE, b=PENDING, c=PENDING)
        await again(
            store,
            AgentRevoked(Subject("a", "key-a", "a"), SAID),
            AgentApproved("b", SAID),
            AgentApproved("c", SAID),
            AgentRevoked(Subject("c", "key-c", "c"), SAID),
            AgentApproved("c", SAID),
        )
        history = await store.agents.status_history("a")

        assert {"a": REVOKED, "b": ACTIVE, "c": REVOKED} == await statuses(store)
        assert [("revoked", "alice", "left")] == [
            (line.status, line.actor, line.reason) for line in history[1:]
        ]


async def test_the_deleted_are_gone_with_all_that_was_theirs_and_their_history_is_kept(
    database_url: str,
) -> None:
    """As a deletion does."""
    async with open_store(database_url) as store:
        await fill(store, a=ACTIVE, b=REVOKED)
        await again(
            store,
            AgentDeleted(Subject("a", "key-a", "a"), ACTIVE, SAID),
            AgentDeleted(Subject("b", "key-b", "b"), REVOKED, SAID),
        )
        deleted = {each.id: each for each in await store.agents.deleted_agents()}
        async with store.database.reading() as connection:
            lines = await connection.scalar(sa.text("SELECT count(*) FROM status_history"))

        assert {} == await statuses(store)
        assert (ACTIVE, 1) == (deleted["a"].status, len(deleted["a"].history))
        assert REVOKED is deleted["b"].status
        assert lines == 0


@pytest.mark.parametrize("status", [ACTIVE, REVOKED])
async def test_whoever_came_and_went_after_the_copy_leaves_a_tombstone(
    database_url: str, status: AgentStatus
) -> None:
    """It holds a leaf of ours that is valid for months: without it, whoever has that comes back as pending."""
    gone = Subject("z", "key-z", "z")
    ended: Event = AgentRevoked(gone, SAID) if status is REVOKED else AgentDeleted(gone, ACTIVE, SAID)
    async with open_store(database_url) as store:
        await again(store, ended)
        application = replace(APPLICATION, key_id="key-z", leaf_agent_id="z", key_is_proven=True)
        findings = await store.enrolment.look_up(application)

        assert findings.leaf_agent_is_taken
        assert findings.key_is_barred is (status is REVOKED)


async def test_uses_of_tokens_are_counted_and_their_revocations_done(database_url: str) -> None:
    """A token that the copy does not know was made since, and admits nobody."""
    async with open_store(database_url) as store:
        token = await fill(store, a=ACTIVE)
        async with store.database.writing() as connection:
            await replay(
                connection,
                [TokenSpent(token), TokenSpent(token), TokenRevoked(token, SAID), TokenSpent("of later")],
            )
        (record,) = await store.tokens.list_tokens()

        assert record.uses == 3
        assert ("alice", "left") == (record.revoked_by, record.revoked_reason)


async def test_a_key_that_followed_another_is_the_agents_unless_it_is_somebody_elses(
    database_url: str,
) -> None:
    """One key is one agent, whatever a log says."""
    async with open_store(database_url) as store:
        await fill(store, a=ACTIVE, b=ACTIVE)
        await again(
            store, KeyReplaced("a", "key-new", b"der", SAID), KeyReplaced("b", "key-new", b"der", SAID)
        )
        found = await store.enrolment.find_agent("key-new")
        other = await store.enrolment.find_agent("key-b")

        assert found is not None
        assert ("a", b"der") == (found.id, found.public_key_der)
        assert other is not None


async def test_the_way_back_from_an_upgrade_resurrects_nobody_either(
    database_url: str, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the audit log goes on as if nothing had been taken back."""
    monkeypatch.setenv("PATH", f"{postgres.tools}:/usr/bin:/bin")
    async with open_store(database_url) as store:
        await fill(store, a=ACTIVE)
        await asyncio.to_thread(back_up, database_url, tmp_path / "copy")
        (end,) = (await SqlAuditStore(store.database).entries_after(0, limit=100))[-1:]
        await store.agents.change_status(
            "a", allowed_from=frozenset({ACTIVE}), to=REVOKED, actor="alice", reason="left"
        )
        known = await SqlAuditStore(store.database).entries_after(0, limit=100)
    asked: list[Link] = []

    def told(link: Link) -> Told:
        asked.append(link)
        later = [entry for entry in known if entry.seq > link.seq]
        return Told([event for entry in later if (event := event_of(entry))], later)

    def settle(url: str) -> None:
        asyncio.run(decide_again(url, told, actor="alice"))

    now = datetime(2026, 5, 4, tzinfo=UTC)
    await asyncio.to_thread(restore, database_url, tmp_path / "copy", now=now, settle=settle)
    async with open_store(database_url) as store:
        assert {"a": REVOKED} == await statuses(store)
        *before, last = await SqlAuditStore(store.database).entries_after(0, limit=100)
    assert known == before
    assert ("database.restored", "alice", {"told": True}) == (last.action, last.actor, dict(last.details))
    assert breaks([*before, last]) == []
    assert asked == [end.link]


async def test_a_host_that_took_anothers_place_has_it_again_and_the_old_key_stays_out(
    database_url: str,
) -> None:
    """Also where the copy knows both agents as they were."""
    async with open_store(database_url) as store:
        await fill(store, old=ACTIVE, new=PENDING)
        await again(
            store, PlaceTaken(Subject("old", "key-new", "old"), "new", "key-old", b"of the new one", SAID)
        )
        found = await store.enrolment.find_agent("key-new")
        findings = await store.enrolment.look_up(replace(APPLICATION, key_id="key-old", key_is_proven=True))

        assert found is not None
        assert ("old", ACTIVE, b"of the new one") == (found.id, found.status, found.public_key_der)
        assert findings.key_is_barred
        assert {"old": ACTIVE} == await statuses(store)


async def test_a_place_that_was_taken_with_a_key_nobody_told_is_nobodys(database_url: str) -> None:
    """The old hardware holds a valid leaf of the agent: it must not open a stream with it."""
    async with open_store(database_url) as store:
        await fill(store, old=ACTIVE)
        await again(store, PlaceTaken(Subject("old", "key-new", "old"), "new", "key-old", b"", SAID))

        assert {"old": REVOKED} == await statuses(store)


async def test_what_a_copy_from_before_an_upgrade_has_no_table_for_is_passed_over(sqlite_url: str) -> None:
    """Taking an upgrade back must not fail over what only the new version knew."""
    async with open_store(sqlite_url) as store:
        await fill(store, a=ACTIVE)
        async with store.database.writing() as connection:
            await connection.execute(sa.text("DROP TABLE barred_keys"))
            done = await replay(
                connection, [KeyShared("a", SAID), AgentRevoked(Subject("a", "key-a", "a"), SAID)]
            )

        assert {"revocations": 1} == done

"""Every decision that the store carries out is in the chain, in the same transaction, with who took it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from contract.values import create_token, digest_of, leaf, new_agent
from ct_ops_server.audit.decisions import Action
from ct_ops_server.audit.entries import Entry, chained
from ct_ops_server.audit.verification import breaks
from ct_ops_server.enrolment.model import LeafOccasion, NewKey, Refusal, RefusalNote, TokenTerms
from ct_ops_server.enrolment.ports import TokenNotRedeemedError
from ct_ops_server.fleet.check_model import NewCheck
from ct_ops_server.fleet.decisions import THE_HOST_ITSELF
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.orders import NewQuery, NewTask
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.store.audit import ChainMismatchError, adopt
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.refusals import SqlRefusalStore
from unit.server.audit.audit_world import revocation

NOT_REVOKED = frozenset({AgentStatus.PENDING, AgentStatus.ACTIVE})
SOON = timedelta(minutes=5)


async def recorded(store: Store) -> list[Entry]:
    entries = list(await store.audit.entries_after(0, limit=1_000))
    assert [] == breaks(entries)
    return entries


async def decide(store: Store, agent_id: str, to: AgentStatus, actor: str = "ada") -> None:
    await store.agents.change_status(agent_id, allowed_from=NOT_REVOKED, to=to, actor=actor, reason="because")


async def test_tokens_and_admissions_are_recorded_once_each(store: Store) -> None:
    """Made, imported, spent, revoked; what was decided before is not decided again."""
    await create_token(store.tokens, "t1", TokenTerms("web", max_uses=1))
    await create_token(store.tokens, "t1", TokenTerms("web", max_uses=1))
    await store.tokens.create_token(
        "t2", digest_of("t2"), TokenTerms("old"), actor="bob", uses=3, is_imported=True
    )
    await store.enrolment.admit(new_agent("a", token_id="t1"), leaf=leaf("a", "01"))
    with pytest.raises(TokenNotRedeemedError):
        await store.enrolment.admit(new_agent("b", token_id="t1"), leaf=None)
    assert await store.tokens.revoke_token("t1", actor="ada", reason="over")
    assert not await store.tokens.revoke_token("t1", actor="ada", reason="over")

    entries = await recorded(store)

    assert [
        (Action.TOKEN_MADE, "ada", "t1", ""),
        (Action.TOKEN_IMPORTED, "bob", "t2", ""),
        (Action.AGENT_ADMITTED, "enrolment", "t1", "a"),
        (Action.TOKEN_REVOKED, "ada", "t1", ""),
    ] == [(entry.action, entry.actor, entry.token, entry.agent) for entry in entries]
    assert {"key_id": "key-a", "hostname": "host-a", "serial": "01", "status": "active"}.items() <= (
        entries[2].details.items()
    )


async def test_verdicts_departures_and_deletions_name_key_and_host(store: Store) -> None:
    """So that a restored database can be told who must not come back (rule 25)."""
    for name, status in (("a", AgentStatus.PENDING), ("b", AgentStatus.PENDING), ("c", AgentStatus.ACTIVE)):
        await store.enrolment.admit(new_agent(name, status=status), leaf=None)
    await decide(store, "a", AgentStatus.ACTIVE)
    await decide(store, "a", AgentStatus.REVOKED)
    await decide(store, "a", AgentStatus.REVOKED)
    await decide(store, "b", AgentStatus.REVOKED)
    await decide(store, "c", AgentStatus.REVOKED, THE_HOST_ITSELF)
    assert await store.agents.delete_agent("a", actor="bob", reason="gone")
    assert not await store.agents.delete_agent("a", actor="bob", reason="gone")

    verdicts = [entry for entry in await recorded(store) if entry.action != Action.AGENT_RESTORED]

    assert [
        (Action.AGENT_APPROVED, "ada", "a", "pending"),
        (Action.AGENT_REVOKED, "ada", "a", "active"),
        (Action.AGENT_REJECTED, "ada", "b", "pending"),
        (Action.AGENT_DEREGISTERED, "agent:c", "c", "active"),
        (Action.AGENT_DELETED, "bob", "a", "revoked"),
    ] == [(entry.action, entry.actor, entry.agent, entry.details["status"]) for entry in verdicts]
    assert all(entry.details["key_id"] == f"key-{entry.agent}" for entry in verdicts)
    assert all(entry.details["hostname"] == f"host-{entry.agent}" for entry in verdicts)


async def test_leaves_and_keys_are_recorded(store: Store) -> None:
    """Issued, renewed, and the key that follows another."""
    await store.enrolment.admit(new_agent("a"), leaf=None)
    await store.enrolment.record_leaf(leaf("a", "01"))
    await store.enrolment.record_leaf(replace(leaf("a", "02"), occasion=LeafOccasion.RENEWAL))
    assert await store.enrolment.replace_key("a", "key-a", NewKey("key-new", b"der"), leaf("a", "03"))

    entries = (await recorded(store))[1:]

    assert [
        (Action.LEAF_ISSUED, "agent:a", "01"),
        (Action.LEAF_RENEWED, "agent:a", "02"),
        (Action.AGENT_KEY_REPLACED, "agent:a", "03"),
    ] == [(entry.action, entry.actor, entry.details["serial"]) for entry in entries]
    assert "key-new" == entries[2].details["key_id"]


async def test_commands_are_recorded_without_what_may_be_secret(store: Store) -> None:
    """Checks, queries and tasks; a check's configuration may hold a password."""
    await store.enrolment.admit(new_agent("a"), leaf=None)
    check = NewCheck("c1", "a", "login", "http", '{"password":"hunter2"}', SOON, SOON)
    await store.checks.add_check(check, actor="ada")
    assert await store.checks.set_enabled("c1", enabled=False, actor="bob")
    assert not await store.checks.set_enabled("c1", enabled=False, actor="bob")
    assert await store.checks.remove_check("c1", actor="ada")
    await store.queries.ask(NewQuery("q1", "a", "list_ports", "ada", SOON))
    await store.tasks.give(NewTask("t1", "a", "software_inventory", "{}", "ada", SOON))
    await store.tasks.cancel_task("t1", actor="bob")
    await store.tasks.cancel_task("t1", actor="bob")

    entries = (await recorded(store))[1:]

    assert [
        (Action.CHECK_ADDED, "ada", "c1"),
        (Action.CHECK_CHANGED, "bob", "c1"),
        (Action.CHECK_REMOVED, "ada", "c1"),
        (Action.QUERY_ASKED, "ada", "q1"),
        (Action.TASK_GIVEN, "ada", "t1"),
        (Action.TASK_CANCELLED, "bob", "t1"),
    ] == [(entry.action, entry.actor, entry.subject) for entry in entries]
    assert {"a"} == {entry.agent for entry in entries}
    assert not any("hunter2" in str(entry) for entry in entries)


async def test_a_restored_database_takes_back_what_it_lost(store: Store) -> None:
    """The chain goes on from there, without a fork."""
    await create_token(store.tokens, "t1")
    (before,) = await recorded(store)
    lost = chained([revocation(1), revocation(2)], before.link, at_ms=1)

    async def take_back(connection: AsyncConnection) -> None:
        await adopt(connection, lost)

    await store.writer.run(take_back)
    await create_token(store.tokens, "t2")

    assert [before, *lost] == (await recorded(store))[:3]
    assert 4 == (await store.audit.reach()).head.seq


async def test_entries_of_another_chain_are_not_taken(store: Store) -> None:
    """They would make a chain that nobody wrote."""
    await create_token(store.tokens, "t1")
    (before,) = await recorded(store)
    changed = chained([revocation(1)], before.link, at_ms=1)[0]

    async def take(connection: AsyncConnection) -> None:
        await adopt(connection, [changed, changed])

    with pytest.raises(ChainMismatchError, match="out of order"):
        await store.writer.run(take)
    assert [before] == await recorded(store)


async def test_a_chain_goes_on_after_a_restart(sqlite_url: str) -> None:
    """From where the database says."""
    for token in ("t1", "t2"):
        async with open_store(sqlite_url) as store:
            await create_token(store.tokens, token)
    async with open_store(sqlite_url) as store:
        assert ["t1", "t2"] == [entry.token for entry in await recorded(store)]


async def test_refusals_are_summed_up_in_the_chain(store: Store) -> None:
    """The first at once, the others at the end of a window; none twice, and none without its count."""
    clock = [1_800_000_000.0]
    refusals = SqlRefusalStore(store.database, store.writer, now_s=lambda: clock[0])

    def note(number: int, count: int = 1) -> RefusalNote:
        return RefusalNote(Refusal.TOKEN_REVOKED, f"key-{number}", f"h{number}", "192.0.2.1", "t1", count)

    await refusals.record_refusals([note(1)])
    for number in range(2, 30):
        await refusals.record_refusals([note(number, 2)])
    await refusals.record_summed_up()
    clock[0] += 61
    await refusals.record_summed_up()
    await refusals.record_summed_up()
    await refusals.record_refusals([note(1)])
    await refusals.record_summed_up(everything=True)

    entries = await recorded(store)

    assert [1, 56, 1] == [entry.details["count"] for entry in entries]
    assert {(Action.REGISTER_REFUSED, "enrolment", "t1", "token_revoked")} == {
        (entry.action, entry.actor, entry.token, entry.subject) for entry in entries
    }
    assert ("h2", "h3", "h4", "h5", "h6") == entries[1].details["hosts"]


async def test_refusals_that_could_not_be_recorded_are_counted_with_the_next(store: Store) -> None:
    """An outage of the database takes none of them out of the log."""
    refusals = SqlRefusalStore(store.database, store.writer)
    cut = RefusalNote(Refusal.TOKEN_UNKNOWN, "key-1", "h\x00", "192.0.2.1", None)
    whole = RefusalNote(Refusal.TOKEN_UNKNOWN, "key-2", "h", "192.0.2.1", None)

    with pytest.raises(StoreError):
        await refusals.record_refusals([replace(cut, count=2**70)])
    await refusals.record_refusals([whole])

    (entry,) = await recorded(store)
    assert 2**63 - 1 == entry.details["count"]
    assert entry.details["hosts"] == ("h ", "h")

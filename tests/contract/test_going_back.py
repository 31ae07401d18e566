"""What a restore does to a store (rule 25): it is as it was, nobody is connected, and no stream of the other time writes.

In memory: ``snapshot``, ``restore`` and ``settle``, on which simulated fleets stand. Of databases: the copies and
the settling that ``db restore`` is made of.
"""

from __future__ import annotations

from dataclasses import replace

from contract.test_anchor_store import NEW, OLD, believing
from contract.test_carried_store import ANSWERED
from contract.test_clone_store import clone
from contract.test_delivery_store import OUTBOX, batch, gap, gaps_of, reached
from contract.test_refusal_store import note
from contract.test_trust_store import A, prepare_second
from contract.timelines import Timeline
from contract.values import (
    APPLICATION,
    StoreUnderTest,
    beat,
    create_token,
    enrol,
    leaf,
    open_stream,
)
from ct_ops_server.authority.life_cycle import Kind, TrustState
from ct_ops_server.authority.ports import Change
from ct_ops_server.enrolment.model import NewKey
from ct_ops_server.fleet.clones import Outcome
from ct_ops_server.fleet.delivery import Delivery, Verdict
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.replaying import AgentDeleted, AgentRevoked, KeyReplaced, KeyShared, Said, Subject

ACTIVE, QUARANTINED, REVOKED = AgentStatus.ACTIVE, AgentStatus.QUARANTINED, AgentStatus.REVOKED
SAID = Said("ada", "since the backup", 1_900_000_000_000)
_EVER = frozenset(AgentStatus)


async def revoke(store: StoreUnderTest, agent_id: str) -> None:
    """Revoke an agent."""
    await store.agents.change_status(agent_id, allowed_from=_EVER, to=REVOKED, actor="ada", reason="")


async def statuses(store: StoreUnderTest) -> dict[str, AgentStatus]:
    """Return who is there."""
    return {agent.id: agent.status for agent in await store.agents.list_agents()}


async def test_what_was_decided_since_a_backup_is_gone_and_what_was_before_is_back(
    timeline: Timeline,
) -> None:
    """Agents, keys, tokens, refusals, answered requests, authorities, and what agents believe."""
    async with timeline.opened() as store:
        await enrol(store, "a", "b", "c")
        version = await prepare_second(store)
        await store.anchors.record({"a": believing(OLD)})
        await timeline.back_up()
        await enrol(store, "d")
        await revoke(store, "a")
        await store.agents.delete_agent("b", actor="ada", reason="")
        await store.enrolment.replace_key("c", "key-c", NewKey("key-new", b"new"), leaf("c", "02"))
        await store.tokens.revoke_token("token-of-a", actor="ada", reason="")
        await store.refusals.record_refusals([note()])
        await store.carried.record_answered(ANSWERED)
        await store.trust.change(Change(Kind.CA, {A: TrustState.OUTGOING}))
        await store.anchors.record({"a": believing(OLD, NEW)})
    await timeline.restore()
    async with timeline.opened() as store:
        (token,), trust = await store.tokens.list_tokens(), await store.trust.load()

        assert dict.fromkeys("abc", ACTIVE) == await statuses(store)
        assert "key-c" == (await store.agent("c")).key_id
        assert not await store.agents.deleted_agents()
        assert ("token-of-a", 3, None) == (token.id, token.uses, token.revoked_at)
        assert not await store.refusals.list_refusals(limit=10)
        assert await store.carried.find_answered(ANSWERED.request_id) is None
        assert (version, TrustState.ACTIVE) == (trust.version, trust.keys[Kind.CA][0].state)
        assert 0 == (await store.anchors.following(NEW)).following


async def test_after_a_restore_nobody_is_connected_and_every_stream_of_before_is_fenced(
    timeline: Timeline,
) -> None:
    """Also those that were opened after the backup: no generation of the other time is ever current again."""
    async with timeline.opened() as store:
        await enrol(store, "a")
        await store.presence.renew_lease("worker-1")
        before = [await open_stream(store, "a")]
        await timeline.back_up()
        before += [await open_stream(store, "a") for _ in range(3)]
        await store.trust.report("worker-1", "node", 0)
    await timeline.restore()
    async with timeline.opened() as store:
        agent, stragglers = await store.agent("a"), await store.trust.stragglers(1)
        beats = [await store.streams.record_heartbeat(beat("a", each)) for each in before]
        told = [await store.deliveries.deliver(batch(1, generation=each)) for each in before]
        after = await open_stream(store, "a")

        assert (ACTIVE, False) == (agent.status, agent.online)
        assert [] == list(stragglers)
        assert [False] * 4 == beats
        assert [Verdict.FENCED] * 4 == [each.verdict for each in told]
        assert after > max(before) + 1_000_000
        assert await store.streams.record_heartbeat(beat("a", after))


async def test_what_was_delivered_since_a_backup_is_stored_when_it_comes_again(timeline: Timeline) -> None:
    """The outbox is where it was at the backup, and says so."""
    first, second = batch(1, gap(1)), batch(2, gap(2))
    async with timeline.opened() as store:
        await enrol(store, "a")
        await open_stream(store, "a")
        await store.deliveries.deliver(first)
        await timeline.back_up()
        await store.deliveries.deliver(second)
    await timeline.restore()
    async with timeline.opened() as store:
        generation = await open_stream(store, "a")
        position, found = await store.deliveries.position("a", OUTBOX), await gaps_of(store)
        again = Delivery("a", generation, second.items, number=second.number)
        told = await store.deliveries.deliver(again)

        assert (reached(first), {gap(1)}) == (position, found)
        assert Verdict.STORED is told.verdict
        assert {gap(1), gap(2)} == await gaps_of(store)


async def test_a_clone_that_was_split_since_is_in_quarantine_again_with_its_evidence(
    timeline: Timeline,
) -> None:
    """For nobody has a key of his own yet; and the one that there is is barred, for the files tell that copies hold it."""
    async with timeline.opened() as store:
        await enrol(store, "a")
        await clone(store)
        log = await store.clones.sides("a")
        await timeline.back_up()
        done = await store.successions.split("a", log, 0, actor="ada", reason="")
    await timeline.restore([KeyShared("a", SAID, "key-a")])
    async with timeline.opened() as store:
        (again,) = await store.clones.logs_of_quarantined()
        findings = await store.enrolment.look_up(
            replace(APPLICATION, key_id="key-own", presented_key_id="key-a")
        )

        assert done is Outcome.DONE
        assert {"a": QUARANTINED} == await statuses(store)
        assert ("a", log) == again
        assert "a" == findings.split_from


async def test_what_was_told_of_the_time_since_holds_in_what_was_restored(timeline: Timeline) -> None:
    """Whoever was enrolled after the backup too: the end of it is all that is left."""
    async with timeline.opened() as store:
        await enrol(store, "a", "b", "c")
        await create_token(store.tokens)
        await timeline.back_up()
        await revoke(store, "a")
        await store.agents.delete_agent("b", actor="ada", reason="")
        await enrol(store, "d")
        await revoke(store, "d")
    await timeline.restore(
        [
            AgentRevoked(Subject("a", "key-a", "host-a"), SAID),
            AgentDeleted(Subject("b", "key-b", "host-b"), ACTIVE, SAID),
            KeyReplaced("c", "key-new", b"new", SAID),
            AgentRevoked(Subject("d", "key-d", "host-d"), SAID),
        ]
    )
    async with timeline.opened() as store:
        assert {"a": REVOKED, "c": ACTIVE} == await statuses(store)
        assert {"b", "d"} == {left.id for left in await store.agents.deleted_agents()}
        assert "key-new" == (await store.agent("c")).key_id

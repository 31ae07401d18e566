"""What a hurry's rows promise: who is picked, who is back, the halt, and how it goes on. Time is moved, not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from contract.test_trust_store import ACTIVE, OUTGOING, RETIRED, A, B, prepare_second
from contract.values import APPLICATION, StoreUnderTest, enrol, leaf, new_agent, open_stream
from ct_ops_server.authority.life_cycle import Kind
from ct_ops_server.authority.ports import Change, NewKey
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.following import AnchorSource, Believed
from ct_ops_server.fleet.hurry import Hurry, HurryState

Streams = dict[str, LiveStream]


async def fleet(store: StoreUnderTest, *names: str) -> Streams:
    """Return online agents of an old agent CA, and let another one be the one that signs."""
    await enrol(store, *names)
    return await hurried(store, *names)


async def hurried(store: StoreUnderTest, *names: str) -> Streams:
    """Let a second agent CA sign, these agents be online, and a hurry begin."""
    await store.presence.renew_lease("worker-1")
    await prepare_second(store)
    version = await store.trust.change(Change(Kind.CA, {A: OUTGOING, B: ACTIVE}))
    await store.trust.report("worker-1", "node", version)
    streams = {name: LiveStream(name, await open_stream(store, name)) for name in names}
    await store.hurries.start_hurry(actor="ada")
    return streams


async def step_and_claim(store: StoreUnderTest, streams: Streams) -> Sequence[str]:
    """Take a step three seconds after the last one; return who was told."""
    await store.hurry_later(timedelta(seconds=3))
    await store.hurries.step_hurry()
    return [claim.stream.agent_id for claim in await store.hurries.claim_hurried(list(streams.values()))]


async def comes_back(store: StoreUnderTest, name: str) -> None:
    """Let an agent present a leaf of the new agent CA on a new stream."""
    await store.enrolment.record_leaf(replace(leaf(name, f"new {name}"), authority_sha256=bytes.fromhex(B)))
    await open_stream(store, name)


async def shown(store: StoreUnderTest) -> Hurry:
    """Return how it is."""
    found = await store.hurries.hurry()
    assert found is not None
    return found


async def test_one_after_the_other_renews_until_all_have_a_leaf_of_the_new_ca(store: StoreUnderTest) -> None:
    """Each is told once, on the stream that it was picked on."""
    streams = await fleet(store, "a", "b")
    assert await store.hurries.claim_hurried(list(streams.values())) == []
    assert await step_and_claim(store, streams) == ["a"]
    assert await store.hurries.claim_hurried(list(streams.values())) == []
    assert await store.hurries.step_hurry() is HurryState.RUNNING
    assert await store.hurries.claim_hurried(list(streams.values())) == [], "three seconds have not passed"
    await comes_back(store, "a")
    assert await step_and_claim(store, streams) == ["b"]
    await comes_back(store, "b")
    assert await step_and_claim(store, streams) == []
    found = await shown(store)
    assert (HurryState.DONE, 2, 2, 0) == (found.state, found.asked, found.back, found.remaining)


async def test_it_halts_when_three_are_not_back_within_two_minutes_and_goes_on_without_them(
    store: StoreUnderTest,
) -> None:
    """Whoever starts it again has looked at them."""
    streams = await fleet(store, "a", "b", "c", "d")
    for name in ("a", "b", "c"):
        assert await step_and_claim(store, streams) == [name]
    await store.hurry_later(timedelta(minutes=3))
    assert await store.hurries.step_hurry() is HurryState.HALTED
    found = await shown(store)
    assert ("host-a", "host-b", "host-c") == found.missing
    assert "not back" in found.reason
    assert await step_and_claim(store, streams) == [], "a halted one touches nobody"

    await store.hurries.start_hurry(actor="ada")
    assert await step_and_claim(store, streams) == ["d"]
    assert (await shown(store)).missing == ()


async def test_no_existing_agent_on_windows_is_made_to_renew(store: StoreUnderTest) -> None:
    """Nobody starts it again; one of ours does not exit."""
    for name in ("ours", "windows"):
        application = replace(
            APPLICATION, key_id=f"key-{name}", hostname=f"host-{name}", os="Windows Server 2019"
        )
        await store.enrolment.admit(new_agent(name, application=application), leaf=None)
    await store.anchors.record({"ours": Believed(AnchorSource.LEARNT, frozenset())})
    streams = await hurried(store, "ours", "windows")

    assert await step_and_claim(store, streams) == ["ours"]
    await comes_back(store, "ours")
    assert await step_and_claim(store, streams) == []
    found = await shown(store)
    assert (HurryState.RUNNING, 1, 1) == (found.state, found.remaining, found.left_alone)


async def test_who_reconnects_before_it_is_told_is_picked_again(store: StoreUnderTest) -> None:
    """Its worker died, or it was cut off at that moment: nobody waits for it, and it is not forgotten."""
    streams = await fleet(store, "a")
    await store.hurry_later(timedelta(seconds=3))
    await store.hurries.step_hurry()
    streams["a"] = LiveStream("a", await open_stream(store, "a"))
    assert await store.hurries.claim_hurried(list(streams.values())) == []
    await store.hurries.step_hurry()
    assert await step_and_claim(store, streams) == ["a"]


async def test_who_comes_back_without_a_leaf_of_it_is_picked_again(store: StoreUnderTest) -> None:
    """It was told on a connection that was gone, or reconnected for another reason."""
    streams = await fleet(store, "a")
    assert await step_and_claim(store, streams) == ["a"]
    streams["a"] = LiveStream("a", await open_stream(store, "a"))

    assert await step_and_claim(store, streams) == ["a"]


async def test_two_workers_that_claim_at_once_tell_it_once(store: StoreUnderTest) -> None:
    """A claim is a row's change, and only one of them makes it."""
    streams = await fleet(store, "a")
    await store.hurries.step_hurry()
    both = await asyncio.gather(*(store.hurries.claim_hurried(list(streams.values())) for _ in range(2)))
    assert sum(map(len, both)) == 1


async def test_nobody_is_picked_while_a_worker_would_sign_by_the_old_one(store: StoreUnderTest) -> None:
    """It has not taken up the latest step of the agent CA."""
    streams = await fleet(store, "a")
    await store.presence.renew_lease("worker-2")
    assert await step_and_claim(store, streams) == []
    await store.trust.report("worker-2", "node", (await store.trust.load()).version)

    assert await step_and_claim(store, streams) == ["a"]


async def test_it_goes_on_when_the_certificate_of_the_target_is_renewed(store: StoreUnderTest) -> None:
    """Who has a leaf of the one before has one of the new one: nobody is picked twice."""
    streams = await fleet(store, "a", "b")
    assert await step_and_claim(store, streams) == ["a"]
    await comes_back(store, "a")
    new = NewKey("cc" * 32, "", ACTIVE)
    version = await store.trust.change(Change(Kind.CA, {B: RETIRED}, new, instead_of=B))
    await store.trust.report("worker-1", "node", version)
    assert await step_and_claim(store, streams) == ["b"]

    assert (HurryState.RUNNING, 1) == ((hurry := await shown(store)).state, hurry.remaining)


async def test_it_stops_when_another_agent_ca_signs_and_when_it_is_told_to(store: StoreUnderTest) -> None:
    """Leaves of the target cannot be had any more."""
    streams = await fleet(store, "a")
    await store.trust.change(Change(Kind.CA, {A: ACTIVE, B: OUTGOING}))
    assert await store.hurries.step_hurry() is HurryState.STOPPED
    version = await store.trust.change(Change(Kind.CA, {A: OUTGOING, B: ACTIVE}))
    await store.trust.report("worker-1", "node", version)
    await store.hurries.start_hurry(actor="ada")
    assert await store.hurries.stop_hurry(actor="ada")
    assert await step_and_claim(store, streams) == []
    assert not await store.hurries.stop_hurry(actor="ada")

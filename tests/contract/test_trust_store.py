"""What ``authority.ports.TrustStore`` promises: steps are whole and in order, and who is behind is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from contract.values import ISSUED, StoreUnderTest, digest_of, enrol, leaf
from ct_ops_server.authority.life_cycle import Holders, Kind, Straggler, TrustState
from ct_ops_server.authority.ports import Change, Heard, NewKey, TrustChangedError
from ct_ops_server.fleet.model import AgentStatus

A, B = digest_of("authority").hex(), "bb" * 32
PREPARED, ACTIVE, OUTGOING, RETIRED = (
    TrustState.PREPARED,
    TrustState.ACTIVE,
    TrustState.OUTGOING,
    TrustState.RETIRED,
)


async def prepare_second(store: StoreUnderTest) -> int:
    """Have A active and B prepared, with their keys."""
    await store.trust.change(Change(Kind.CA, new=NewKey(A, "pem of a", ACTIVE)))
    new = NewKey(B, "pem of b", PREPARED)
    return await store.trust.change(Change(Kind.CA, new=new, sealed_keys={A: "key a", B: "key b"}))


async def test_a_new_store_trusts_nobody(store: StoreUnderTest) -> None:
    """Versions begin with zero."""
    stored = await store.trust.load()

    assert (0, {Kind.CA: [], Kind.JWT: []}) == (stored.version, stored.keys)


async def test_a_step_changes_states_and_a_retired_key_is_gone(store: StoreUnderTest) -> None:
    """Oldest first; what is public of a retired one stays."""
    version = await prepare_second(store)
    await store.trust.change(Change(Kind.CA, {A: OUTGOING, B: ACTIVE}))
    last = await store.trust.change(Change(Kind.CA, {A: RETIRED}))
    stored = await store.trust.load()

    assert version + 2 == last == stored.version
    assert [(A, RETIRED, None, "pem of a"), (B, ACTIVE, "key b", "pem of b")] == [
        (each.name, each.state, each.sealed_key, each.public_pem) for each in stored.keys[Kind.CA]
    ]
    assert [] == list(stored.keys[Kind.JWT])


async def test_one_that_is_known_is_not_stored_again(store: StoreUnderTest) -> None:
    """Its state is what the steps made of it."""
    await prepare_second(store)
    await store.trust.change(Change(Kind.CA, new=NewKey(A, "another pem", RETIRED)))

    assert [("pem of a", ACTIVE), ("pem of b", PREPARED)] == [
        (each.public_pem, each.state) for each in (await store.trust.load()).keys[Kind.CA]
    ]


async def test_other_certificates_above_one_that_is_known_are_stored(store: StoreUnderTest) -> None:
    """Its name, its state and its key stay."""
    await prepare_second(store)
    await store.trust.change(Change(Kind.CA, public_pems={A: "pem of a, and above"}))

    assert [("pem of a, and above", ACTIVE, "key a"), ("pem of b", PREPARED, "key b")] == [
        (each.public_pem, each.state, each.sealed_key) for each in (await store.trust.load()).keys[Kind.CA]
    ]


async def test_leaves_of_a_renewed_certificate_count_as_the_new_ones(store: StoreUnderTest) -> None:
    """One key has signed both: nobody is told to get another leaf."""
    await store.trust.change(Change(Kind.CA, new=NewKey(A, "pem of a", ACTIVE)))
    await enrol(store, "a")
    await store.enrolment.record_leaf(leaf("a", "a1"))
    renewed = Change(Kind.CA, {A: RETIRED}, NewKey(B, "pem of b", ACTIVE), instead_of=A)
    await store.trust.change(renewed)
    now = ISSUED + timedelta(days=1)

    assert [(A, RETIRED), (B, ACTIVE)] == [
        (each.name, each.state) for each in (await store.trust.load()).keys[Kind.CA]
    ]
    assert [B] == [each.name for each in await store.trust.shares(now)]
    assert 1 == (await store.trust.holders(B, now, first=5)).count


async def test_a_step_planned_before_another_is_refused_and_changes_nothing(store: StoreUnderTest) -> None:
    """Two operators saw the same plan."""
    version = await prepare_second(store)
    step = Change(Kind.CA, {A: OUTGOING, B: ACTIVE}, expected_version=version)
    await store.trust.change(step)
    with pytest.raises(TrustChangedError):
        await store.trust.change(step)

    assert version + 1 == (await store.trust.load()).version


async def test_a_living_worker_keeps_others_from_replacing_its_keys(store: StoreUnderTest) -> None:
    """Once its lease is stale nobody is in the way."""
    change = Change(Kind.CA, new=NewKey(A, "pem", ACTIVE), only_without_workers=True)
    await store.presence.renew_lease("w1")
    with pytest.raises(TrustChangedError):
        await store.trust.change(change)
    await store.age_lease("w1", timedelta(minutes=1))
    await store.trust.change(change)

    assert [A] == [each.name for each in (await store.trust.load()).keys[Kind.CA]]


async def test_a_worker_is_behind_until_it_reports(store: StoreUnderTest) -> None:
    """Whoever has a lease counts, also one that never reports; without a lease nothing is recorded."""
    version = await prepare_second(store)
    for worker_id in ("w1", "w2"):
        await store.presence.renew_lease(worker_id)
    await store.trust.report("w2", "node-2", version - 1)
    await store.trust.report("nobody", "node-3", version)
    before, heard_before = await store.trust.stragglers(version), await store.trust.heard("w1")
    await store.trust.report("w1", "node-1", version)
    await store.trust.report("w2", "node-2", version)

    assert [Straggler("w1", ""), Straggler("w2", "node-2")] == list(before)
    assert [] == list(await store.trust.stragglers(version))
    assert Heard(version, -1) == heard_before
    assert Heard(version, version) == await store.trust.heard("w1")
    assert Heard(version, None) == await store.trust.heard("nobody")


async def test_the_youngest_leaf_says_whose_an_agent_is(store: StoreUnderTest) -> None:
    """A leaf that has ended is needed by nobody; who is not active does not count."""
    await enrol(store, "a", "b")
    await enrol(store, "c")
    for agent_id in ("a", "b", "c"):
        await store.enrolment.record_leaf(leaf(agent_id, f"{agent_id}1"))
    later = replace(leaf("b", "b2", issued_at=ISSUED + timedelta(days=1)), authority_sha256=bytes.fromhex(B))
    await store.enrolment.record_leaf(later)
    active = frozenset({AgentStatus.ACTIVE})
    await store.agents.change_status("c", allowed_from=active, to=AgentStatus.REVOKED, actor="ada", reason="")
    host = (await store.agent("a")).hostname
    early, late = ISSUED + timedelta(days=2), ISSUED + timedelta(days=90, hours=1)

    def shares_of(shares: object) -> dict[str, tuple[int, int]]:
        return {each.name: (each.agents, each.good) for each in shares}  # type: ignore[attr-defined]  # a sequence

    assert {A: (1, 1), B: (1, 1)} == shares_of(await store.trust.shares(early))
    assert {A: (1, 0), B: (1, 1)} == shares_of(await store.trust.shares(late))
    assert Holders(1, (host,)) == await store.trust.holders(A, early, first=5)
    assert Holders(0, ()) == await store.trust.holders(A, late, first=5)

"""Whom an installation trusts, as rows: steps are whole, in order, and nothing of a retired key stays."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from ct_ops_server.authority.life_cycle import Holders, Kind, Straggler, TrustState
from ct_ops_server.authority.ports import Change, Heard, NewKey, TrustChangedError
from ct_ops_server.store.opening import Store
from ct_ops_server.store.schema import agents, leaves, sealed_keys

PREPARED, ACTIVE, OUTGOING, RETIRED = (
    TrustState.PREPARED,
    TrustState.ACTIVE,
    TrustState.OUTGOING,
    TrustState.RETIRED,
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
A, B = "aa" * 32, "bb" * 32


async def states(store: Store, kind: Kind = Kind.CA) -> dict[str, TrustState]:
    return {each.name: each.state for each in (await store.trust.load()).keys[kind]}


async def prepare_second(store: Store) -> int:
    """Have A active and B prepared, with their keys."""
    await store.trust.change(Change(Kind.CA, new=NewKey(A, "pem of a", ACTIVE)))
    new = NewKey(B, "pem of b", PREPARED)
    return await store.trust.change(Change(Kind.CA, new=new, sealed_keys={A: "key a", B: "key b"}))


async def sealed_names(store: Store) -> set[str]:
    async with store.database.reading() as connection:
        return set(await connection.scalars(sa.select(sealed_keys.c.name)))


async def test_a_step_changes_two_states_at_once(store: Store) -> None:
    """The one before is outgoing at the very moment at which the next is active."""
    await prepare_second(store)
    await store.trust.change(Change(Kind.CA, {A: OUTGOING, B: ACTIVE}))

    assert {A: OUTGOING, B: ACTIVE} == await states(store)


async def test_a_key_is_kept_until_it_is_retired(store: Store) -> None:
    """Of a retired one only what is public stays."""
    await prepare_second(store)
    await store.trust.change(Change(Kind.CA, {A: OUTGOING, B: ACTIVE}))
    before = await sealed_names(store)
    await store.trust.change(Change(Kind.CA, {A: RETIRED}))
    stored = await store.trust.load()
    retired, active = stored.find(Kind.CA, A), stored.find(Kind.CA, B)
    assert retired is not None
    assert active is not None

    assert {f"ca:{A}", f"ca:{B}"} == before
    assert {f"ca:{B}"} == await sealed_names(store)
    assert ("pem of a", None) == (retired.public_pem, retired.sealed_key)
    assert "key b" == active.sealed_key
    assert "key b" not in repr(stored)


async def test_a_step_that_was_planned_before_another_is_not_taken(store: Store) -> None:
    """Of two operators who saw the same plan, one takes the step; nothing of the other's is stored."""
    version = await prepare_second(store)
    step = Change(Kind.CA, {A: OUTGOING, B: ACTIVE}, expected_version=version)
    outcomes = await asyncio.gather(*(store.trust.change(step) for _ in range(3)), return_exceptions=True)

    assert [version + 1] == [each for each in outcomes if isinstance(each, int)]
    assert 2 == sum(isinstance(each, TrustChangedError) for each in outcomes)
    assert version + 1 == (await store.trust.load()).version


async def test_signing_keys_live_by_the_same_steps(store: Store) -> None:
    """Their names are theirs: an agent CA and a token key never meet."""
    await store.trust.change(Change(Kind.JWT, new=NewKey("one", "public one", ACTIVE)))
    await store.trust.change(
        Change(Kind.JWT, {"one": OUTGOING}, new=NewKey("two", "public two", ACTIVE), sealed_keys={"two": "k"})
    )

    assert {"one": OUTGOING, "two": ACTIVE} == await states(store, Kind.JWT)
    assert {} == await states(store)
    assert {"jwt:two"} == await sealed_names(store)


async def test_what_nobody_may_change_under_a_running_server_is_not_changed(store: Store) -> None:
    """A living worker keeps a start with other keys from taking over."""
    await store.presence.renew_lease("w1")
    with pytest.raises(TrustChangedError, match="running"):
        await store.trust.change(Change(Kind.CA, new=NewKey(A, "pem", ACTIVE), only_without_workers=True))

    assert {} == await states(store)


async def test_a_worker_is_behind_until_it_reports(store: Store) -> None:
    """Whoever has a lease counts, also one of an older version that never reports."""
    version = await prepare_second(store)
    await store.presence.renew_lease("w1")
    await store.presence.renew_lease("w2")
    await store.trust.report("w2", "node-2", version - 1)
    before = await store.trust.stragglers(version)
    await store.trust.report("w1", "node-1", version)
    await store.trust.report("w2", "node-2", version)

    assert [Straggler("w1", ""), Straggler("w2", "node-2")] == list(before)
    assert [] == list(await store.trust.stragglers(version))
    assert Heard(version, version) == await store.trust.heard("w1")
    assert Heard(version, None) == await store.trust.heard("nobody")


async def test_a_renewed_lease_keeps_what_was_reported(store: Store) -> None:
    """Leases are renewed every few seconds; what a worker knows stays known."""
    await store.presence.renew_lease("w1")
    await store.trust.report("w1", "node-1", 7)
    await store.presence.renew_lease("w1")

    assert [] == list(await store.trust.stragglers(7))


async def test_the_latest_leaf_says_which_authority_an_agent_has(store: Store) -> None:
    """Who renewed counts for the new one; a leaf that has ended is none that anybody needs; revoked agents do not count."""
    await agent_with_leaves(store, "renewed", (A, 80), (B, 90))
    await agent_with_leaves(store, "waiting", (A, 10))
    await agent_with_leaves(store, "away", (A, -10))
    await agent_with_leaves(store, "revoked", (A, 50), status="revoked")
    shares = {each.name: (each.agents, each.good) for each in await store.trust.shares(NOW)}

    assert {A: (2, 1), B: (1, 1)} == shares
    assert Holders(1, ("waiting",)) == await store.trust.holders(A, NOW, first=5)
    assert Holders(0, ()) == await store.trust.holders("cc" * 32, NOW, first=5)


async def agent_with_leaves(
    store: Store, name: str, *issued: tuple[str, int], status: str = "active"
) -> None:
    """Store an agent with leaves: of which authority, and how many days each is good."""
    text = dict.fromkeys(("observed_address", "evidence", "agent_version", "os", "os_version", "arch"), "")
    lists = dict.fromkeys(("claimed_addresses", "claimed_tags"), "[]")
    row: dict[str, object] = {"id": name, "key_id": name, "public_key_der": b"", "hostname": name}
    row.update(text, **lists, status=status, created_at=0, generation=0, online=False)
    async with store.database.writing() as connection:
        await connection.execute(agents.insert().values(row))
        for number, (authority, days) in enumerate(issued):
            leaf: dict[str, object] = {
                "serial": f"{name}{number}",
                "agent_id": name,
                "pem": "",
                "sha256": f"{name}{number}".encode(),
            }
            leaf |= {"issued_at": number, "authority_sha256": bytes.fromhex(authority)}
            leaf |= {"not_after": int((NOW + timedelta(days=days)).timestamp() * 1000)}
            await connection.execute(leaves.insert().values(leaf))

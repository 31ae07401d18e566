"""Who the installation is, and whom it trusts."""

from __future__ import annotations

import asyncio

from ct_ops_server.store.installation import InstallationStore, StoredAuthority, StoredSigningKey, TrustState
from ct_ops_server.store.opening import Store

ACTIVE, RETIRED = TrustState.ACTIVE, TrustState.RETIRED


async def test_an_installation_is_decided_once(store: Store) -> None:
    """Whoever opens it later, or at the same moment, finds the same one."""
    stores = [
        InstallationStore(
            store.database,
            store.writer,
            new_id=str(number).__str__,
            new_store_id=bytes([number] * 16).__bytes__,
        )
        for number in range(5)
    ]
    installations = await asyncio.gather(*(one.open() for one in stores))

    assert 1 == len(set(installations))
    assert 16 == len(installations[0].store_id)
    assert installations[0] == await store.installation.open()


async def test_a_new_authority_retires_the_one_before(store: Store) -> None:
    """Exactly one authority is active; the retired one is still known."""
    for name in ("first", "second"):
        await store.installation.remember_authority(name.encode(), f"pem of {name}")
        await asyncio.sleep(0.002)  # the store counts milliseconds

    assert [
        StoredAuthority(b"first", "pem of first", RETIRED),
        StoredAuthority(b"second", "pem of second", ACTIVE),
    ] == await store.installation.authorities()


async def test_an_authority_that_is_remembered_again_stays_one(store: Store) -> None:
    """Every start remembers the authority it uses; an older one may become active again."""
    for name in ("first", "second", "first"):
        await store.installation.remember_authority(name.encode(), "pem")

    assert {b"first": ACTIVE, b"second": RETIRED} == {
        authority.sha256: authority.state for authority in await store.installation.authorities()
    }


async def test_an_authority_that_is_only_recognised_retires_nobody(store: Store) -> None:
    """Imported authorities are known, and sign nothing."""
    await store.installation.remember_authority(b"ours", "pem")
    await store.installation.remember_authority(b"theirs", "pem", RETIRED)

    assert {b"ours": ACTIVE, b"theirs": RETIRED} == {
        authority.sha256: authority.state for authority in await store.installation.authorities()
    }


async def test_a_new_signing_key_retires_the_one_before(store: Store) -> None:
    """Tokens signed with a retired key can still be verified."""
    for kid in ("one", "two"):
        await store.installation.remember_signing_key(kid, f"public {kid}")
        await asyncio.sleep(0.002)  # the store counts milliseconds

    assert [
        StoredSigningKey("one", "public one", RETIRED),
        StoredSigningKey("two", "public two", ACTIVE),
    ] == await store.installation.signing_keys()

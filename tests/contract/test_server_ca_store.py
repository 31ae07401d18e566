"""What ``fleet.shared_server_cas.ServerCaStore`` promises: versions are whole, and of two steps at once one is taken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from contract.values import StoreUnderTest
from ct_ops_server.authority.life_cycle import Straggler
from ct_ops_server.authority.ports import Heard
from ct_ops_server.authority.root import RootName, load_or_create_root
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.server_ca_lineage import Lineage, Member, Role
from ct_ops_server.fleet.shared_server_cas import LineageChangedError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[x509.Certificate, x509.Certificate]:
    """Two server CAs."""
    secret = SealingSecret(tmp_path / "secret", b"x" * 64)
    first, second = (
        load_or_create_root(tmp_path, RootName(stem, stem, ""), secret, now=NOW)
        for stem in ("first", "second")
    )
    return first.certificate, second.certificate


def lineage_of(certificates: tuple[x509.Certificate, x509.Certificate]) -> Lineage:
    """Return a lineage in which the second one is prepared."""
    first, second = certificates
    return Lineage(
        1,
        (
            Member(1, Role.SIGNS, first, sealed_key=b"key 1", by_time=True),
            Member(2, Role.NEXT, second, cross=first, sealed_key=b"key 2"),
        ),
    )


async def test_until_the_first_step_nothing_is_recorded(store: StoreUnderTest) -> None:
    """What lies in files is all there is; the clock is the store's."""
    recorded = await store.server_cas.load()

    assert (recorded.lineage, await store.server_cas.heard("w")) == (None, Heard(0, None))
    assert recorded.clock.tzinfo is UTC


async def test_a_version_is_read_as_it_was_written(
    store: StoreUnderTest, certificates: tuple[x509.Certificate, x509.Certificate]
) -> None:
    """Whole: roles, certificates, keys; the next one replaces all of it."""
    written = lineage_of(certificates)
    await store.server_cas.change(written, expected=0, decisions=())
    assert (await store.server_cas.load()).lineage == written

    first, second = written.members
    later = written.changed(
        replace(first, role=Role.RETIRED, by_time=False), replace(second, role=Role.SIGNS)
    )
    await store.server_cas.change(later, expected=1, decisions=())
    assert (await store.server_cas.load()).lineage == later
    assert [each.sealed_key for each in later.members] == [None, b"key 2"], "of a retired one the key is gone"
    assert await store.server_cas.heard("w") == Heard(2, None)


async def test_a_step_that_was_planned_for_another_version_changes_nothing(
    store: StoreUnderTest, certificates: tuple[x509.Certificate, x509.Certificate]
) -> None:
    """Another node was first."""
    written = lineage_of(certificates)
    await store.server_cas.change(written, expected=0, decisions=())
    for expected in (0, 2):
        with pytest.raises(LineageChangedError):
            await store.server_cas.change(replace(written, version=9), expected=expected, decisions=())

    assert (await store.server_cas.load()).lineage == written


async def test_a_living_worker_that_has_not_taken_up_a_version_is_named(store: StoreUnderTest) -> None:
    """Also one of an earlier version, which never says so; one that is dead is in nobody's way."""
    for worker in ("w1", "w2", "w3"):
        await store.presence.renew_lease(worker)
    await store.age_lease("w3", timedelta(minutes=1))
    await store.server_cas.report("w1", "node-a", 2)
    await store.server_cas.report("nobody", "node-b", 2)

    assert await store.server_cas.heard("w1") == Heard(0, 2)
    assert await store.server_cas.heard("w2") == Heard(0, -1)
    assert await store.server_cas.stragglers(2) == [Straggler("w2", "")]
    assert await store.server_cas.stragglers(3) == [Straggler("w1", "node-a"), Straggler("w2", "")]

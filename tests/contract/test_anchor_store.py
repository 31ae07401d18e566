"""What ``fleet.anchor_log.AnchorStore`` promises: who can follow when the server's CA changes."""

from __future__ import annotations

from contract.values import StoreUnderTest, enrol
from ct_ops_server.fleet.following import AnchorSource, Believed, Following
from ct_ops_server.fleet.model import AgentStatus

OLD, NEW = bytes(32), bytes([1]) * 32


def believing(*anchors: bytes, source: AnchorSource = AnchorSource.LEARNT) -> Believed:
    return Believed(source, frozenset(anchors))


async def test_an_empty_fleet_leaves_nobody_behind(store: StoreUnderTest) -> None:
    """There is nobody to wait for."""
    assert Following(0, 0, 0, 0, ()) == await store.anchors.following(NEW)


async def test_who_cannot_follow_is_counted_and_named(store: StoreUnderTest) -> None:
    """Who never reported is named first; only active agents count."""
    await enrol(store, "follows", "existing", "configured", "behind")
    await enrol(store, "waits", status=AgentStatus.PENDING)
    await store.anchors.record(
        {
            "follows": believing(OLD, NEW),
            "configured": believing(OLD, source=AnchorSource.OPERATOR),
            "behind": believing(OLD),
            "nobody": believing(NEW),
        }
    )
    names = ("host-existing", "host-behind", "host-configured")

    assert Following(4, 1, 1, 1, names) == await store.anchors.following(NEW)
    assert 3 == (await store.anchors.following(OLD)).following
    assert Following(4, 3, 1, 0, ("host-existing",)) == await store.anchors.following(OLD, NEW)
    assert 0 == (await store.anchors.following()).following


async def test_the_latest_report_counts(store: StoreUnderTest) -> None:
    """An agent that dropped a CA does not believe it any more, and a deleted one is not asked for."""
    await enrol(store, "a", "b")
    await store.anchors.record({"a": believing(OLD), "b": believing(OLD)})
    await store.anchors.record({"a": believing(NEW)})
    await store.agents.delete_agent("b", actor="ada", reason="")

    assert Following(1, 1, 0, 0, ()) == await store.anchors.following(NEW)
    assert Following(1, 0, 0, 0, ("host-a",)) == await store.anchors.following(OLD)

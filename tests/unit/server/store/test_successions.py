"""What is on record of decisions about clones: enough to decide them again after a restore (rule 25)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from contract.values import APPLICATION, create_token, new_agent
from ct_ops_server.backup.since import event_of
from ct_ops_server.fleet.model import StreamOpening
from ct_ops_server.fleet.sides import Side
from ct_ops_server.store.audit_reading import SqlAuditStore
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.replaying import AgentRevoked, KeyShared, PlaceTaken

ORIGINAL = Side("192.0.2.1", "p-a", "o-1", "boot-a", "machine-a", "web-1", ("52:54:00:00:00:0a",))
COPY = replace(ORIGINAL, address="192.0.2.2", process_id="p-b", boot_id="boot-b")


async def decided(store: Store) -> dict[str, object]:
    """Return what a restored database would be told of each action."""
    entries = await SqlAuditStore(store.database).entries_after(0, limit=100)
    return {entry.action: event_of(entry) for entry in entries}


async def test_split_merge_and_replace_are_recorded_so_that_a_restore_does_them_again(tmp_path: Path) -> None:
    """The evidence of a quarantine is on record as well."""
    async with open_store(f"sqlite:///{tmp_path / 'ct-ops.db'}") as store:
        token = await create_token(store.tokens)
        for agent_id in ("a", "b", "c", "d", "e"):
            await store.enrolment.admit(new_agent(agent_id, token_id=token), leaf=None)
        for side in (ORIGINAL, COPY, ORIGINAL, COPY):
            opening = StreamOpening("a", "key-a", "worker-1", timedelta(seconds=30), side)
            await store.streams.open_stream(opening)
        log = await store.clones.sides("a")
        await store.successions.split("a", log, 0, actor="ada", reason="")
        await store.successions.merge("b", "c", actor="ada", reason="")
        await store.successions.replace("d", "e", actor="ada", reason="")
        told = await decided(store)
        entries = await SqlAuditStore(store.database).entries_after(0, limit=100)
    quarantine = next(entry for entry in entries if entry.action == "agent.quarantined")
    split, revoked, replaced = (told[action] for action in ("agent.split", "agent.revoked", "agent.replaced"))

    assert ("192.0.2.1", "192.0.2.2") == quarantine.details["addresses"]
    assert isinstance(split, KeyShared)
    assert ("a", "key-a") == (split.agent_id, split.key_id)
    assert isinstance(revoked, AgentRevoked)
    assert ("c", "key-c", "host-c") == (
        revoked.agent.agent_id,
        revoked.agent.key_id,
        revoked.agent.hostname,
    )
    assert isinstance(replaced, PlaceTaken)
    assert ("d", "key-e", "e", "key-d") == (
        replaced.agent.agent_id,
        replaced.agent.key_id,
        replaced.other_id,
        replaced.old_key_id,
    )
    assert APPLICATION.public_key_der == replaced.public_key_der

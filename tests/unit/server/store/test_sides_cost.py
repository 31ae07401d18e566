"""What noticing clones costs: nothing for a heartbeat, one read for a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from msgspec.structs import replace

from contract.values import beat, create_token, new_agent
from ct_ops_server.fleet.model import StreamOpening
from ct_ops_server.fleet.sides import Side
from ct_ops_server.store.opening import open_store

SIDE = Side("192.0.2.1", "p-a", "o-1", "boot-a", "machine-a", "web-1", ("52:54:00:00:00:0a",))


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements of every engine of this process that read or write agents or their sides."""
    said: list[str] = []

    def note(*arguments: object) -> None:
        text = str(arguments[2])
        if "agents" in text or "agent_sides" in text:
            said.append(text.split(maxsplit=1)[0])

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


async def test_a_heartbeat_has_one_statement_and_a_reconnect_writes_no_log(tmp_path: Path) -> None:
    """The log is written when a side is new, not each time a fleet comes back to a server that was restarted."""
    async with open_store(f"sqlite:///{tmp_path / 'ct-ops.db'}") as store:
        await store.enrolment.admit(new_agent("a", token_id=await create_token(store.tokens)), leaf=None)
        opening = StreamOpening("a", "key-a", "worker-1", timedelta(seconds=30), SIDE)
        with statements() as first:
            await store.streams.open_stream(opening)
        with statements() as reconnect:
            await store.streams.open_stream(opening)
        with statements() as heartbeat:
            await store.streams.record_heartbeat(beat("a", 2))
        with statements() as restart:
            restarted = StreamOpening(
                "a", "key-a", "worker-1", None, replace(SIDE, process_id="p-b", boot_id="boot-b")
            )
            await store.streams.open_stream(restarted)

    assert ["SELECT", "UPDATE", "INSERT"] == first == restart
    assert ["SELECT", "UPDATE"] == reconnect
    assert ["UPDATE"] == heartbeat

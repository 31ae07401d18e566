"""Who stops when a server drains: at once who has nothing in its hands, everybody else a little later."""

from __future__ import annotations

import asyncio

from ct_ops_server.authority.leaf_identity import Anonymous, AnonymousReason
from ct_ops_server.edge.callers import Caller, Callers


async def _rpc(caller: Caller, said: list[str], *, resting: bool, work: asyncio.Event) -> None:
    with caller.rpc():
        try:
            if resting:
                with caller.resting():
                    await asyncio.Event().wait()
            await work.wait()
            said.append(f"done, then {caller.leaving}")
        except asyncio.CancelledError:
            said.append(f"cut: {caller.leaving}")


async def test_a_stream_that_waits_is_cut_and_one_that_stores_is_not() -> None:
    """What was received is stored and answered first."""
    callers, caller, said = (
        Callers(end_grace_s=0.0),
        Caller(Anonymous(AnonymousReason.NO_LEAF), "192.0.2.1"),
        list[str](),
    )
    callers.enter("peer", caller)
    work = asyncio.Event()
    rpcs = [asyncio.create_task(_rpc(caller, said, resting=resting, work=work)) for resting in (True, False)]
    await asyncio.sleep(0)
    callers.drain("server_stopping", reconnect_within_s=1.0)
    await rpcs[0]
    work.set()
    await rpcs[1]

    assert ["cut: server_stopping", "done, then server_stopping"] == said


async def test_who_comes_while_the_server_drains_hears_it_as_well() -> None:
    """A connection that was in its handshake is no gap."""
    callers, caller = Callers(end_grace_s=0.0), Caller(Anonymous(AnonymousReason.NO_LEAF), "192.0.2.1")
    callers.drain("server_stopping", reconnect_within_s=1.0)
    callers.enter("peer", caller)

    assert "server_stopping" == caller.leaving

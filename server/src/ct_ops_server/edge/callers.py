"""Who is on which connection, and how to end it.

The front door registers a ``Caller`` under the name its upstream socket is bound to, *before* the
upstream sees a byte; gRPC shows that name as the peer of every RPC, so a handler finds its caller
without trusting anything a client sent. A caller with an agent's identity is also found by agent id:
that is how a revocation reaches every connection of an agent (rule 6).

A caller enters the table before its agent's status is read. So a revocation either finds it here, or
was committed before the status is read: there is no moment in which it could slip through.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ct_ops_server.authority.leaf_identity import LeafIdentity, LeafOfAgent


@dataclass(eq=False)
class Caller:
    """One connection's verified peer."""

    identity: LeafIdentity
    """What its leaf proved at the handshake. Claims inside messages are only *claimed*."""
    address: str
    """Source address, without port."""
    was_asked_for_leaf: bool = True
    """False on the one connection after a handshake that failed over an unknown authority."""
    ended: str | None = None
    """Why this caller must go, once that is decided. Checked before every commit."""
    leaving: str | None = None
    """Why its RPCs shall end as soon as nothing is in their hands, once that is decided."""
    _abort: Callable[[], None] | None = field(default=None, repr=False)
    _rpcs: set[asyncio.Task[object]] = field(default_factory=set, repr=False)
    _resting: set[asyncio.Task[object]] = field(default_factory=set, repr=False)

    @property
    def agent_id(self) -> str | None:
        """The agent this connection speaks for; None for everybody without a valid leaf."""
        return self.identity.agent_id if isinstance(self.identity, LeafOfAgent) else None

    def on_abort(self, abort: Callable[[], None]) -> None:
        """Give the function that cuts the connection at once."""
        self._abort = abort

    @contextlib.contextmanager
    def rpc(self) -> Iterator[None]:
        """Count the running task as an RPC of this caller: ``end`` will cancel it."""
        task = asyncio.current_task()
        assert task is not None
        self._rpcs.add(task)
        try:
            yield
        finally:
            self._rpcs.discard(task)

    def end(self, reason: str, *, grace_s: float) -> None:
        """Tell every RPC ``reason``; ``grace_s`` later cut the connection, however silent the peer is."""
        if self.ended is not None:
            return
        self.end_rpcs(reason)
        if self._abort is not None:
            asyncio.get_running_loop().call_later(grace_s, self._abort)

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Let ``drain`` cut short what the running task waits for: it has nothing in its hands meanwhile."""
        task = asyncio.current_task()
        assert task is not None
        self._resting.add(task)
        try:
            yield
        finally:
            self._resting.discard(task)

    def drain(self, reason: str) -> None:
        """Tell RPCs that rest ``reason`` now, and the others when they have done what they are about to do."""
        self.leaving = reason
        for task in self._resting:
            task.cancel()

    def end_rpcs(self, reason: str) -> None:
        """Tell every RPC ``reason``; the connection stays."""
        self.ended = reason
        for task in self._rpcs:
            task.cancel()


class Callers:
    """The live table of one process."""

    def __init__(self, *, end_grace_s: float) -> None:
        self._end_grace_s = end_grace_s
        self._by_peer: dict[str, Caller] = {}
        self._by_agent: dict[str, set[Caller]] = {}
        self._leaving: str | None = None
        self.reconnect_within_s = 0.0
        """How long agents may take to come back when they are sent away."""

    @property
    def agents(self) -> int:
        """How many agents are connected."""
        return len(self._by_agent)

    def __len__(self) -> int:
        return len(self._by_peer)

    def enter(self, peer: str, caller: Caller) -> None:
        """Make the caller findable, by its upstream socket's name and by its agent id."""
        self._by_peer[peer] = caller
        caller.leaving = self._leaving
        if caller.agent_id is not None:
            self._by_agent.setdefault(caller.agent_id, set()).add(caller)

    def leave(self, peer: str) -> None:
        """Forget the caller. Harmless when it is not there."""
        caller = self._by_peer.pop(peer, None)
        if caller is None or caller.agent_id is None:
            return
        connections = self._by_agent[caller.agent_id]
        connections.discard(caller)
        if not connections:
            del self._by_agent[caller.agent_id]

    def find(self, peer: str) -> Caller | None:
        """Return the caller behind a gRPC peer such as ``unix-abstract:NAME``.

        None means that this process has no such connection (any more): never a reason to make an
        agent give up its identity (rule 10).
        """
        return self._by_peer.get(peer.removeprefix("unix-abstract:"))

    def end(self, agent_id: str, reason: str) -> int:
        """End every connection of an agent; return how many there were."""
        connections = tuple(self._by_agent.get(agent_id, ()))
        for caller in connections:
            caller.end(reason, grace_s=self._end_grace_s)
        return len(connections)

    def end_all(self, reason: str) -> None:
        """End every connection that speaks for an agent."""
        for agent_id in tuple(self._by_agent):
            self.end(agent_id, reason)

    def end_where(self, applies: Callable[[Caller], bool], reason: str) -> int:
        """End every agent's connection that this applies to; return how many there were."""
        found = [each for own in self._by_agent.values() for each in own if applies(each)]
        for caller in found:
            caller.end(reason, grace_s=self._end_grace_s)
        return len(found)

    def drain(self, reason: str, *, reconnect_within_s: float) -> None:
        """End every RPC of this process once it has stored and answered what it received."""
        self._leaving, self.reconnect_within_s = reason, reconnect_within_s
        for caller in tuple(self._by_peer.values()):
            caller.drain(reason)

    def end_rpcs(self, reason: str) -> None:
        """End every RPC of this process now."""
        for caller in tuple(self._by_peer.values()):
            caller.end_rpcs(reason)

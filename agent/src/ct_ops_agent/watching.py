"""Who is told how the agent is: the status file, the service manager, or nobody."""

from __future__ import annotations

from typing import Protocol

from ct_ops_agent.control_plane import Route
from ct_ops_agent.conversation_parts import Acknowledgement
from ct_ops_agent.errors import AgentError
from ct_ops_agent.identity.credentials import Identity


class Watches(Protocol):
    """Told how the agent is: `status.board.StatusBoard`, `service.watchdog.Progress`."""

    def enrolling(self, route: Route) -> None:
        """A Register is about to be sent."""

    def connecting(self, route: Route, identity: Identity) -> None:
        """A stream is about to be opened."""

    def acknowledged(self, route: Route, identity: Identity, news: Acknowledgement) -> None:
        """The server answered a heartbeat."""

    def failed(self, failure: AgentError, delay_s: float) -> None:
        """An attempt, or a stream, ended; the next one is `delay_s` seconds away."""


class Everybody:
    """Tells each of its watchers; without any, nobody (a single run)."""

    def __init__(self, *watchers: Watches) -> None:
        self._watchers = watchers

    def enrolling(self, route: Route) -> None:
        """Tell it."""
        for watcher in self._watchers:
            watcher.enrolling(route)

    def connecting(self, route: Route, identity: Identity) -> None:
        """Tell it."""
        for watcher in self._watchers:
            watcher.connecting(route, identity)

    def acknowledged(self, route: Route, identity: Identity, news: Acknowledgement) -> None:
        """Tell it."""
        for watcher in self._watchers:
            watcher.acknowledged(route, identity, news)

    def failed(self, failure: AgentError, delay_s: float) -> None:
        """Tell it."""
        for watcher in self._watchers:
            watcher.failed(failure, delay_s)

"""When the watchdog is fed: while there is progress, or while the next turn of the reconnect loop is not overdue.

A timer alone would feed it for a daemon that hangs in a connection. So whoever watches the lifecycle says
what happened last, and until when the next thing must have happened:

===================  =============================================
what happened        the next thing must follow within
===================  =============================================
a heartbeat          three intervals
an attempt failed    the announced wait
an attempt began     the deadlines of an attempt
===================  =============================================

plus a margin. When it does not, the watchdog is left hungry and systemd starts the agent again. The feeding
itself runs on the event loop: a loop that is blocked feeds nobody.
"""

from __future__ import annotations

from typing import NoReturn

from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import Route
from ct_ops_agent.conversation_parts import Acknowledgement
from ct_ops_agent.errors import AgentError
from ct_ops_agent.identity.credentials import Identity
from ct_ops_proto.service_manager import ServiceManager

MARGIN_S = 120.0
_MISSED_HEARTBEATS = 3


class Progress:
    """Told what happens (`watching.Watches`); feeds the watchdog while it is in time."""

    def __init__(
        self, manager: ServiceManager, clock: Clock, *, interval_s: float, silence_s: float | None
    ) -> None:
        """Prepare.

        Args:
            manager: told.
            clock: of this host; only its monotonic side counts.
            interval_s: between two heartbeats.
            silence_s: how long the service manager lets us be silent; ``None``: it does not count.
        """
        self._manager = manager
        self._clock = clock
        self._interval_s = interval_s
        self._silence_s = silence_s
        self._due_at = clock.monotonic() + MARGIN_S

    def enrolling(self, route: Route) -> None:
        """A Register is about to be sent."""
        self._expect(0)
        self._manager.status(f"asking {_places(route)} to be admitted")

    def connecting(self, route: Route, identity: Identity) -> None:
        """A stream is about to be opened."""
        self._expect(0)
        self._manager.status(f"connecting to {_places(route)} as agent {identity.agent_id}")

    def acknowledged(self, route: Route, identity: Identity, _news: Acknowledgement) -> None:
        """The server answered a heartbeat."""
        self._expect(_MISSED_HEARTBEATS * self._interval_s)
        self._manager.status(f"reporting to {_places(route)} as agent {identity.agent_id}")

    def failed(self, failure: AgentError, delay_s: float) -> None:
        """An attempt, or a stream, ended; the next one is `delay_s` seconds away."""
        self._expect(delay_s)
        self._manager.status(f"{failure} (next try in {delay_s:.0f} s)")

    @property
    def is_in_time(self) -> bool:
        """Whether what must happen next is not overdue."""
        return self._clock.monotonic() < self._due_at

    async def run(self) -> NoReturn:
        """Feed the watchdog while there is progress, until cancelled."""
        while True:
            await self._clock.sleep((self._silence_s or 2 * MARGIN_S) / 3)
            if self._silence_s is not None and self.is_in_time:
                self._manager.alive()

    def _expect(self, within_s: float) -> None:
        self._due_at = self._clock.monotonic() + within_s + MARGIN_S


def _places(route: Route) -> str:
    return ", ".join(route.addresses)

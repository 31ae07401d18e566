"""The life of an agent: find the server, be admitted, report; and the reaction to each failure.

Three things are needed in this order: a route, an identity, a stream. A stream that ends because a new
leaf wants a new connection is followed by the next one at once. Whatever is missing is got,
whatever fails is answered by one flat table:

=========================  =================================  ==========================
failure                    what is given up                   next try
=========================  =================================  ==========================
`UnreachableError`         a route not yet written down       1 s → 4 s → 60 s
`CredentialRejectedError`  the identity: Register, same key   1 s → 4 s → 60 s
`ApprovalPendingError`     nothing                            30 s
`EnrolmentRefusedError`    a route not yet written down       60 s → 15 min
… of a host split off      the identity: a key of its own     1 s → 4 s → 60 s
=========================  =================================  ==========================

For the first two minutes of an outage the wait stays at 4 s, less a random quarter: a server that was
restarted has its agents back within seconds. After that it grows on.

A stream that lasted 10 s after its first acknowledgement sets the waits back. Nothing ends the
daemon but a stop or a data directory that cannot be used.

A server that hangs up during the TLS handshake may dislike the leaf, which TLS 1.3 cannot tell us.
After the third time in a row, or the first one when the leaf has expired, Register is tried once,
which does no harm when it was something else.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

from ct_ops_agent.backoff import Backoff
from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import Route
from ct_ops_agent.conversation_parts import Acknowledgement, StreamEvents
from ct_ops_agent.errors import (
    AgentError,
    ApprovalPendingError,
    ConfigError,
    CredentialRejectedError,
    DataDirectoryError,
    EnrolmentRefusedError,
    UnreachableError,
)
from ct_ops_agent.identity.credentials import CredentialStore, Identity, StoredRoute
from ct_ops_agent.refusals import SPLIT_OFF
from ct_ops_agent.renewal import FEATURE
from ct_ops_agent.vitals import Vitals
from ct_ops_agent.watching import Everybody, Watches

_log = logging.getLogger(__name__)

STABLE_AFTER_S = 10.0
PENDING_INTERVAL_S = 30.0
HOPEFUL_S = 4.0
_HOPEFUL_FAILURES = 32
_HANG_UPS_BEFORE_REGISTER = 3


class Enrols(Protocol):
    """Gets an identity."""

    async def enrol(self, route: Route) -> Identity:
        """Register once."""

    async def separate(self, route: Route) -> Identity:
        """Register once with a key of this host's own: the one it has is another host's."""


class Reports(Protocol):
    """Speaks to the server as an identity."""

    async def run(self, route: Route, identity: Identity, events: StreamEvents) -> None:
        """Keep a stream alive until it fails, or until a new connection is wanted."""

    async def once(self, route: Route, identity: Identity) -> Vitals:
        """Send one heartbeat."""


@dataclass(frozen=True)
class Outcome:
    """What ``run --once`` has to show."""

    identity: Identity
    route: Route
    newly_enrolled: bool
    vitals: Vitals


class Lifecycle:
    """One agent, from start to stop."""

    def __init__(
        self,
        *,
        identity: Identity | None,
        find_route: Callable[[], Awaitable[Route]],
        enrolment: Callable[[], Enrols],
        heartbeat: Reports,
        store: CredentialStore,
        clock: Clock,
        random: Callable[[], float],
        key_is_doubtful: Callable[[], bool] = lambda: False,
        pending_interval_s: float = PENDING_INTERVAL_S,
        watcher: Watches | None = None,
        advice: str = "",
        carried: Callable[[], Identity | None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            identity: of an earlier admission.
            find_route: finds the server.
            enrolment: builds what gets an identity.
            heartbeat: reports.
            store: where identity and route are kept.
            clock: of this host.
            random: uniform in [0, 1), for the jitter of waits.
            key_is_doubtful: whether the server may hold another key by now.
            pending_interval_s: seconds between two questions of a pending agent.
            watcher: told how the agent is.
            advice: said once, after a heartbeat that a server of ours acknowledged.
            carried: installs a reply that was carried here while this agent waits for an identity.
        """
        self._identity = identity
        self._route: Route | None = None
        self._find_route = find_route
        self._enrolment = enrolment
        self._heartbeat = heartbeat
        self._store = store
        self._watcher = watcher or Everybody()
        self._advice = advice
        self._carried = carried
        self._clock = clock
        self._reconnect = Backoff(
            first=1.0, ceiling=60.0, random=random, hopeful=HOPEFUL_S, hopeful_failures=_HOPEFUL_FAILURES
        )
        self._refused = Backoff(first=60.0, ceiling=900.0, random=random)
        self._key_is_doubtful = key_is_doubtful
        self._pending_interval_s = pending_interval_s
        self._acknowledged_at: float | None = None
        self._hang_ups = 0
        self._is_copy = False

    async def run(self) -> NoReturn:
        """Live until cancelled.

        Raises:
            DataDirectoryError: the identity cannot be read or kept.
            ConfigError: found out only now that the configuration contradicts itself.
        """
        while True:
            try:
                await self._live()
                continue
            except (ConfigError, DataDirectoryError):
                raise
            except AgentError as failure:
                delay_s = self._react(failure)
                self._watcher.failed(failure, delay_s)
                _log.warning("%s (next try in %.0f s)", failure, delay_s)
            await self._clock.sleep(delay_s)

    async def once(self) -> Outcome:
        """Enrol if there is need, send one heartbeat, report.

        Raises:
            AgentError: any of its kinds; nothing is retried but a rejected credential, once.
        """
        newly_enrolled = self._identity is None
        try:
            route, identity = await self._get_ready()
        except ApprovalPendingError:
            self._keep_route()  # after the approval nobody may have the token at hand
            raise
        try:
            vitals = await self._heartbeat.once(route, identity)
        except (CredentialRejectedError, UnreachableError) as failure:
            if isinstance(failure, UnreachableError) and not failure.cut_off_in_handshake:
                raise
            _log.warning("%s; registering again", failure)
            self._identity = None
            route, identity = await self._get_ready()
            vitals = await self._heartbeat.once(route, identity)
        self._keep_route()
        return Outcome(identity, route, newly_enrolled, vitals)

    async def _live(self) -> None:
        route, identity = await self._get_ready()
        self._watcher.connecting(route, identity)
        await self._heartbeat.run(route, identity, self)

    def acknowledged(self, news: Acknowledgement) -> None:
        """The server answered a heartbeat (`conversation_parts.StreamEvents`)."""
        if self._route and self._identity:
            self._watcher.acknowledged(self._route, self._identity, news)
        if self._advice and FEATURE in news.features:  # an existing server may ask for the token again
            _log.info("%s", self._advice)
            self._advice = ""
        if self._acknowledged_at is None:
            self._acknowledged_at = self._clock.monotonic()
            self._hang_ups = 0
            self._keep_route()

    def renewed(self, identity: Identity) -> None:
        """The next connection uses these credentials (`conversation_parts.StreamEvents`)."""
        self._identity = identity

    def trusts(self, roots_pem: str) -> None:
        """The next connection believes these server CAs (`conversation_parts.StreamEvents`)."""
        if self._route:
            self._keep_route()  # how the server is reached, if that was not written down yet
            self._store.keep_trust_bundle(roots_pem)
            self._route = replace(self._route, roots_pem=roots_pem)

    async def _get_ready(self) -> tuple[Route, Identity]:
        if self._identity is None and (carried := self._carried()):
            self._identity, self._route = carried, None  # it came with the way to its server
        if self._route is None:
            self._route = await self._find_route()
        if self._identity is None or self._leaf_is_doubtful(self._identity):
            self._hang_ups = 0
            self._watcher.enrolling(self._route)
            self._identity = await self._get_identity(self._route)
            self._keep_route()
        return self._route, self._identity

    async def _get_identity(self, route: Route) -> Identity:
        enrolment = self._enrolment()
        if not self._is_copy:
            return await enrolment.enrol(route)
        try:
            identity = await enrolment.separate(route)
        except ApprovalPendingError:
            self._is_copy = False  # the key is its own; what is left is an operator's approval
            raise
        self._is_copy = False
        return identity

    def _leaf_is_doubtful(self, identity: Identity) -> bool:
        expired = 0 < identity.leaf_not_after_unix < self._clock.wall()
        return self._hang_ups >= (1 if expired else _HANG_UPS_BEFORE_REGISTER)

    def _react(self, failure: AgentError) -> float:
        """Give up what the failure makes doubtful and return the seconds to wait."""
        had_served = self._acknowledged_at is not None
        self._settle()
        if self._key_is_doubtful():
            self._identity = None  # a reply to a rotation may be lost: Register tells which key counts
        match failure:
            case CredentialRejectedError():
                self._identity = None
                return self._reconnect.next_delay(at_least=failure.refusal.retry_after.total_seconds())
            case ApprovalPendingError():
                self._keep_route()
                return self._pending_interval_s
            case EnrolmentRefusedError() if failure.refusal.reason == SPLIT_OFF and not self._is_copy:
                self._identity, self._is_copy = None, True
                return self._reconnect.next_delay(at_least=failure.refusal.retry_after.total_seconds())
            case EnrolmentRefusedError():
                self._forget_learnt_route()
                return self._refused.next_delay(at_least=failure.refusal.retry_after.total_seconds())
            case UnreachableError():
                self._forget_learnt_route()
                self._hang_ups = self._hang_ups + 1 if failure.cut_off_in_handshake else 0
                if failure.reconnect_within and had_served:  # else it could have us knock without end
                    return self._reconnect.spread(failure.reconnect_within.total_seconds())
                return self._reconnect.next_delay(at_least=failure.retry_after.total_seconds())
            case _:
                raise failure

    def _settle(self) -> None:
        """Set the waits back if the stream that just ended had been stable."""
        began, self._acknowledged_at = self._acknowledged_at, None
        if began is not None and self._clock.monotonic() - began >= STABLE_AFTER_S:
            self._reconnect.reset()
            self._refused.reset()

    def _keep_route(self) -> None:
        """Write down what first contact learnt, once the server has proven useful."""
        if self._route and self._route.learnt:
            self._store.keep_route(
                StoredRoute(
                    self._route.addresses,
                    self._route.server_name,
                    self._route.roots_pem,
                    self._route.began_with,
                )
            )
            self._route = replace(self._route, learnt=False)

    def _forget_learnt_route(self) -> None:
        if self._route and self._route.learnt:
            self._route = None

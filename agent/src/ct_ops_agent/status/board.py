"""The daemon's side: what happens is noted, and the status file follows.

Written at every change of state and after every acknowledged heartbeat, never in between. A file that
cannot be written is said once and costs nothing else: the agent's work does not depend on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ct_ops_agent.anchors import MOST, anchors_of
from ct_ops_agent.control_plane import Route
from ct_ops_agent.conversation_parts import Acknowledgement
from ct_ops_agent.errors import AgentError, ApprovalPendingError, EnrolmentRefusedError
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.refusals import WORTH_TELLING_SKEW_S, describe_skew
from ct_ops_agent.renewal import token_life
from ct_ops_agent.status.place import write_report
from ct_ops_agent.status.report import Report, State

_log = logging.getLogger(__name__)


class StatusBoard:
    """Fulfils `lifecycle.Watches`."""

    def __init__(
        self,
        path: Path,
        report: Report,
        wall: Callable[[], float],
        look: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """Begin with a report about a process that has just started.

        Args:
            path: of the status file.
            report: who this process is.
            wall: this host's clock, seconds since 1970.
            look: returns fields of the report that others know, each time it is written.
        """
        self._path = path
        self._report = report
        self._wall = wall
        self._look = look
        self._told = False
        self._post()

    def enrolling(self, route: Route) -> None:
        """A Register is about to be sent."""
        self._become(State.ENROLLING, server=route.addresses[0], problem=self._report.problem)

    def connecting(self, route: Route, identity: Identity) -> None:
        """A stream is about to be opened."""
        self._become(State.CONNECTING, **_about(route, identity), problem=self._report.problem)

    def acknowledged(self, route: Route, identity: Identity, news: Acknowledgement) -> None:
        """The server answered a heartbeat."""
        skew_s = news.clock_skew_s
        is_far = skew_s is not None and abs(skew_s) >= WORTH_TELLING_SKEW_S
        self._become(
            State.CONNECTED,
            **_about(route, identity),
            features=news.features,
            acknowledged_at=self._wall(),
            clock_skew_s=None if skew_s is None else round(skew_s, 3),
            problem=describe_skew(skew_s) if skew_s is not None and is_far else "",
        )

    def failed(self, failure: AgentError, delay_s: float) -> None:
        """An attempt, or a stream, ended; the next one is `delay_s` seconds away."""
        match failure:
            case ApprovalPendingError():
                self._become(State.PENDING, delay_s, agent_id=failure.agent_id, problem=str(failure))
            case EnrolmentRefusedError():
                self._become(State.REFUSED, delay_s, problem=str(failure))
            case _:
                self._become(State.WAITING, delay_s, problem=str(failure))

    def _become(self, state: State, delay_s: float | None = None, **facts: Any) -> None:
        now = self._wall()
        since = self._report.since if state is self._report.state else now
        next_try_at = None if delay_s is None else now + delay_s
        self._report = replace(
            self._report, state=state, since=since, written_at=now, next_try_at=next_try_at, **facts
        )
        self._post()

    def _post(self) -> None:
        self._report = replace(self._report, **self._look())
        try:
            write_report(self._path, self._report)
        except OSError as error:
            if not self._told:
                _log.warning("cannot write %s: %s; `ct-ops-agent status` will not know", self._path, error)
            self._told = True
        else:
            self._told = False


def _server_cas(route: Route) -> tuple[str, ...]:
    found = anchors_of(route.roots_pem)
    return tuple(digest.hex()[:16] for digest in found) if len(found) <= MOST else ()


def _about(route: Route, identity: Identity) -> dict[str, Any]:
    """Return the facts that credentials tell."""
    life = token_life(identity.agent_token)
    return {
        "server": route.addresses[0],
        "server_cas": _server_cas(route),
        "agent_id": identity.agent_id,
        "key_id": identity.keys.key_id,
        "leaf_not_after": identity.leaf_not_after_unix or None,
        "agent_token_expires_at": life.expires_unix if life else None,
    }

"""How often in a minute: registrations of one address and with one enrolment token, leaves of one agent.

They are counted before anything is looked up, so that a flood costs no database. What is over is refused with the time
after which it may be tried again; an existing agent, which does not read that, is answered late (`held_refusals`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ct_ops_proto.enrolment_token import secret_digest
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.rate_limits import RateLimit
from ct_ops_server.edge.refusals import refuse


class RegistrationLimits:
    """The counts of one process."""

    def __init__(self, limits: Limits, *, now_s: Callable[[], float]) -> None:
        def limit(most: int | None) -> RateLimit | None:
            return None if most is None else RateLimit(most, now_s=now_s)

        self._of_address = limit(limits.registrations_per_address)
        self._of_token = limit(limits.registrations_per_token)
        self._leaves = RateLimit(limits.leaves_per_agent, now_s=now_s)

    def count(self, address: str, token: str) -> None:
        """Count a Register; ``token`` is the secret part of what was shown, empty: none.

        Raises:
            Refused: there were too many; says when the next one is taken.
        """
        _count(self._of_address, address, "registrations_of_address")
        if token:
            _count(self._of_token, secret_digest(token).hex(), "registrations_of_token")

    def count_leaf(self, agent_id: str) -> None:
        """Count a leaf that an agent asks for: each is a signature, a row, and an entry of the audit log.

        Raises:
            Refused: there were too many; says when the next one is given.
        """
        _count(self._leaves, agent_id, "leaves_of_agent")


def _count(limit: RateLimit | None, key: str, reason: str) -> None:
    wait_s = limit.wait_s(key) if limit else 0.0
    if wait_s > 0:
        raise refuse(reason, retry_after_ms=math.ceil(wait_s * 1000))

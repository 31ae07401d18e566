"""What a Register needs from a store, as a protocol.

``store.enrolment`` implements it on SQLite and PostgreSQL, ``tests/fakes`` in memory; both pass the
same contract suite. Every method may raise the errors of ``fleet.ports``.
"""

from __future__ import annotations

from typing import Protocol

from ct_ops_server.enrolment.model import (
    Application,
    EnrolledAgent,
    Findings,
    LeafRecord,
    NewAgent,
    NewKey,
    TokenRecord,
)


class TokenNotRedeemedError(Exception):
    """The token was expired, exhausted or revoked at the moment of spending. Nothing was changed."""


class KeyAlreadyEnrolledError(Exception):
    """Another Register of the same key was faster. Nothing was changed, no use was spent."""


class TooManyPendingError(Exception):
    """The token has too many agents waiting for approval. Nothing was changed."""


class EnrolmentStore(Protocol):
    """Agents by their key, and the tokens that admit them."""

    async def find_token(self, digest: bytes) -> TokenRecord | None:
        """Return the token with this digest, in whatever state."""

    async def find_agent(self, key_id: str) -> EnrolledAgent | None:
        """Return the agent that holds this key."""

    async def look_up(self, application: Application) -> Findings:
        """Return everything that a verdict about the application needs, read at one moment."""

    async def admit(self, new: NewAgent, *, leaf: LeafRecord | None) -> None:
        """Spend one use of the token, insert the agent with its first history line, and its leaf: all or none.

        Raises:
            TokenNotRedeemedError: no use was left (checked by the spending statement itself).
            KeyAlreadyEnrolledError: the key, or the agent's id, is taken already.
            TooManyPendingError: the token has as many agents waiting as one may have.
        """

    async def replace_key(self, agent_id: str, old_key_id: str, key: NewKey, leaf: LeafRecord) -> bool:
        """Let an active agent's key be followed by another, certified by ``leaf``: all or none.

        Returns:
            False when the agent is not active with the old key any more.

        Raises:
            KeyAlreadyEnrolledError: the new key is, or was, another agent's.
        """

    async def record_leaf(self, leaf: LeafRecord) -> None:
        """Remember an issued leaf of an agent that exists already; its expired leaves are forgotten."""

    async def refresh_facts(self, agent_id: str, application: Application) -> None:
        """Store what a *proven* agent says about itself now (hostname, platform, claimed tags)."""

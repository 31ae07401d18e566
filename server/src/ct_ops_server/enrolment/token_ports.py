"""What the operators' side of enrolment tokens needs from a store, as protocols.

``store.tokens`` and ``store.refusals`` implement them on SQLite and PostgreSQL, ``tests/fakes`` in memory;
all pass the same contract suite. Every method may raise the errors of ``fleet.ports``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ct_ops_server.enrolment.model import (
    AdmittedAgent,
    Refusal,
    RefusalNote,
    RefusalRecord,
    TokenRecord,
    TokenTerms,
)


class TokenStore(Protocol):
    """Enrolment tokens. Nothing but digests of their secrets ever gets here."""

    async def create_token(
        self,
        token_id: str,
        digest: bytes,
        terms: TokenTerms,
        *,
        actor: str,
        uses: int = 0,
        is_imported: bool = False,
    ) -> TokenRecord | None:
        """Insert a token; None, and nothing is changed, when there is one with this digest already.

        Args:
            token_id: new.
            digest: SHA-256 of the secret, or of a whole opaque token.
            terms: checked (``token_terms``).
            actor: who creates it.
            uses: how often it was redeemed before it came here.
            is_imported: it was made by another server; for the audit log.
        """

    async def find_token(self, digest: bytes) -> TokenRecord | None:
        """Return the token with this digest, in whatever state."""

    async def find_tokens(self, selector: str) -> Sequence[TokenRecord]:
        """Tokens whose id is ``selector``, else whose id starts with it, else with exactly this label."""

    async def list_tokens(self) -> Sequence[TokenRecord]:
        """All tokens, youngest first."""

    async def revoke_token(self, token_id: str, *, actor: str, reason: str) -> bool:
        """Revoke a token in one statement; False when it was revoked before, or does not exist."""

    async def admitted_agents(self, token_id: str, *, limit: int) -> Sequence[AdmittedAgent]:
        """Agents that the token admitted and that were not deleted since, youngest first."""


class RefusalStore(Protocol):
    """Who was not admitted, and why."""

    async def record_refusals(self, notes: Sequence[RefusalNote]) -> None:
        """Store refusals: one of the same key and reason adds to the record that is there."""

    async def list_refusals(
        self, *, token_id: str | None = None, reason: Refusal | None = None, limit: int
    ) -> Sequence[RefusalRecord]:
        """Return the latest, newest first; of one token, of one reason, or of all."""

    async def prune_refusals(self, *, keep: int) -> None:
        """Forget all but the newest: ``keep`` of those that showed a token of ours, as many of the others.

        Whoever makes up keys and tokens can so displace nobody but their like.
        """

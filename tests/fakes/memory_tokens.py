"""The part of the store in memory that keeps enrolment tokens, and who was refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

from ct_ops_server.enrolment.model import (
    Refusal,
    RefusalNote,
    RefusalRecord,
    TokenRecord,
    TokenState,
    TokenTerms,
)
from ct_ops_server.enrolment.ports import TokenNotRedeemedError


class MemoryTokens:
    """Tokens and refusals in dictionaries, by a clock that the test may hold."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._tokens: dict[str, TokenRecord] = {}
        self._digests: dict[bytes, str] = {}
        self._refusals: dict[tuple[str, Refusal], tuple[int, RefusalRecord]] = {}
        self._writes = count()

    # TokenStore, but for the agents that a token admitted

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
        del is_imported  # for the audit log, which is not kept here
        if digest in self._digests:
            return None
        record = TokenRecord(token_id, terms, uses=uses, created_at=self._now(), created_by=actor)
        self._tokens[token_id] = record
        self._digests[digest] = token_id
        return record

    async def find_token(self, digest: bytes) -> TokenRecord | None:
        token_id = self._digests.get(digest)
        return None if token_id is None else self._tokens[token_id]

    async def find_tokens(self, selector: str) -> Sequence[TokenRecord]:
        if not selector:
            return []
        youngest_first = await self.list_tokens()
        named = [token for token in youngest_first if token.id == selector]
        begun = [token for token in youngest_first if token.id.startswith(selector)]
        labelled = [token for token in youngest_first if token.terms.label == selector]
        return named or begun or labelled

    async def list_tokens(self) -> Sequence[TokenRecord]:
        return list(reversed(self._tokens.values()))

    async def revoke_token(self, token_id: str, *, actor: str, reason: str) -> bool:
        token = self._tokens.get(token_id)
        if token is None or token.revoked_at is not None:
            return False
        self._tokens[token_id] = replace(
            token, revoked_at=self._now(), revoked_by=actor, revoked_reason=reason
        )
        return True

    def check(self, token_id: str) -> TokenRecord:
        """Return a token that has a use left."""
        token = self._tokens.get(token_id)
        if token is None or token.state(self._now()) is not TokenState.ACTIVE:
            raise TokenNotRedeemedError
        return token

    def redeem(self, token_id: str) -> None:
        """Spend a use."""
        token = self.check(token_id)
        self._tokens[token_id] = replace(token, uses=token.uses + 1)

    # RefusalStore

    async def record_refusals(self, notes: Sequence[RefusalNote]) -> None:
        for note in notes:
            _, before = self._refusals.get((note.key_id, note.reason), (0, None))
            record = RefusalRecord(
                reason=note.reason,
                key_id=note.key_id,
                hostname=note.hostname,
                observed_address=note.observed_address,
                token_id=note.token_id,
                first_at=self._now() if before is None else before.first_at,
                last_at=self._now(),
                count=note.count + (0 if before is None else before.count),
            )
            self._refusals[note.key_id, note.reason] = (next(self._writes), record)

    async def list_refusals(
        self, *, token_id: str | None = None, reason: Refusal | None = None, limit: int
    ) -> Sequence[RefusalRecord]:
        chosen = [
            record
            for record in self._newest_first()
            if token_id in {None, record.token_id} and reason in {None, record.reason}
        ]
        return chosen[:limit]

    async def prune_refusals(self, *, keep: int) -> None:
        newest = self._newest_first()
        kept = [
            *[record for record in newest if record.token_id is None][:keep],
            *[record for record in newest if record.token_id is not None][:keep],
        ]
        self._refusals = {key: entry for key, entry in self._refusals.items() if entry[1] in kept}

    def _newest_first(self) -> list[RefusalRecord]:
        return [record for _, record in sorted(self._refusals.values(), key=lambda entry: -entry[0])]

"""Creating enrolment tokens: the whole string is returned once, only its digest is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ct_ops_proto.enrolment_token import ServerHint, format_token, make_secret, secret_digest
from ct_ops_server.enrolment.model import TokenRecord, TokenTerms
from ct_ops_server.enrolment.ports import EnrolmentStore

_SECRET_BYTES = 20
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A token at the only moment in which its secret is known."""

    record: TokenRecord
    token: str = field(repr=False)
    """``tok_`` SECRET ``.`` HINT, to be handed to a host."""


class TokenDesk:
    """Where operators get enrolment tokens."""

    def __init__(
        self, store: EnrolmentStore, *, hint: Callable[[], ServerHint], random_bytes: Callable[[int], bytes]
    ) -> None:
        """Prepare the desk; ``hint`` tells what tokens carry at this moment."""
        self._store = store
        self._hint = hint
        self._random_bytes = random_bytes

    async def create(self, terms: TokenTerms, *, actor: str) -> CreatedToken:
        """Make and store a token that points at this server and pins its authority.

        Raises:
            ValueError: there is no address to put into the token, or they do not fit.
        """
        hint = self._hint()
        if not hint.addresses:
            raise ValueError(
                "nothing is known about where agents reach this server: start it first (its port is chosen "
                "then), or set INGEST_PUBLIC_ADDRESS=host:port"
            )
        secret = make_secret(self._random_bytes(_SECRET_BYTES))
        whole = format_token(secret, hint)
        token_id = self._random_bytes(_ID_BYTES).hex()
        record = await self._store.create_token(token_id, secret_digest(secret), terms, actor=actor)
        return CreatedToken(record, whole)

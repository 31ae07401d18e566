"""What operators do with enrolment tokens: create, import, look up, revoke; and who was refused.

The whole string of a token is returned once, at its creation; only the digest of its secret is stored.
A token is named by its id, a unique prefix of it, or a unique label. Errors:

    TokenError
    ├── TokenNotFoundError    nothing matches
    ├── TokenAmbiguousError   more than one does; carries them
    ├── TokenExistsError      the digest is that of a token which is there already
    └── DigestError           what was to be imported is no SHA-256

and ``token_terms.TokenTermsError`` for terms that cannot be meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ct_ops_proto.enrolment_token import ServerHint, format_token, make_secret, secret_digest
from ct_ops_server.enrolment.model import AdmittedAgent, Refusal, RefusalRecord, TokenRecord, TokenTerms
from ct_ops_server.enrolment.token_ports import RefusalStore, TokenStore
from ct_ops_server.enrolment.token_terms import checked_terms

_SECRET_BYTES = 20
_ID_BYTES = 8
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SHOWN = 100
"""Of the agents that a token admitted and of those that it did not, how many are shown with it."""


class TokenError(Exception):
    """A request about a token that cannot be done. ``str()`` is a sentence for the operator."""


class TokenNotFoundError(TokenError):
    """Nothing matches the selector."""

    def __init__(self, selector: str) -> None:
        super().__init__(
            f"no token has the id, id prefix or label {selector!r}; see: ct-ops-server token list"
        )


class TokenAmbiguousError(TokenError):
    """The selector names more than one token."""

    def __init__(self, selector: str, candidates: Sequence[TokenRecord]) -> None:
        names = ", ".join(f"{token.id} ({token.terms.label})" for token in candidates[:5])
        super().__init__(f"{selector!r} names more than one token: {names}; use an id")
        self.candidates = tuple(candidates)


class TokenExistsError(TokenError):
    """This server knows the token already."""

    def __init__(self, known: str) -> None:
        super().__init__(f"this token is known here already{known}; nothing was changed")


class DigestError(TokenError):
    """What was to be imported is no SHA-256."""

    def __init__(self) -> None:
        super().__init__("a SHA-256 has 64 hexadecimal digits; this has not")


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A token at the only moment in which its secret is known."""

    record: TokenRecord
    token: str = field(repr=False)
    """``tok_`` SECRET ``.`` HINT, to be handed to a host."""

    @property
    def run_line(self) -> str:
        """The one line to run on a host: the environment carries the token, no process shows it (rule 24)."""
        return f"CT_OPS_ENROLMENT_TOKEN='{self.token}' ct-ops-agent run"


@dataclass(frozen=True, slots=True)
class TokenSheet:
    """A token with what became of it."""

    record: TokenRecord
    admitted: Sequence[AdmittedAgent]
    """The youngest, at most a hundred."""
    refused: Sequence[RefusalRecord]
    """The latest, at most a hundred."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """A token that is revoked now, and whether it had been before."""

    record: TokenRecord
    already: bool


class TokenDesk:
    """Where operators get enrolment tokens, and see what became of them."""

    def __init__(
        self,
        tokens: TokenStore,
        refusals: RefusalStore,
        *,
        hint: Callable[[], ServerHint],
        random_bytes: Callable[[int], bytes],
        now: Callable[[], datetime],
    ) -> None:
        """Prepare the desk; ``hint`` tells what tokens carry at this moment."""
        self._tokens = tokens
        self._refusals = refusals
        self._hint = hint
        self._random_bytes = random_bytes
        self._now = now

    async def create(self, terms: TokenTerms, *, actor: str) -> CreatedToken:
        """Make and store a token that points at this server and pins its authority.

        Raises:
            TokenTermsError: the terms cannot be meant.
            ValueError: there is no address to put into the token, or they do not fit.
        """
        checked, hint = checked_terms(terms, now=self._now()), self._hint()
        if not hint.addresses:
            raise ValueError(
                "nothing is known about where agents reach this server: start it first (its port is chosen "
                "then), or set INGEST_PUBLIC_ADDRESS=host:port"
            )
        secret = make_secret(self._random_bytes(_SECRET_BYTES))
        whole = format_token(secret, hint)
        record = await self._tokens.create_token(self._new_id(), secret_digest(secret), checked, actor=actor)
        if record is None:
            raise TokenExistsError("")
        return CreatedToken(record, whole)

    async def import_digest(
        self, sha256_hex: str, terms: TokenTerms, *, actor: str, uses: int = 0
    ) -> TokenRecord:
        """Take over a token of an existing server, whose hosts show it here from now on.

        Args:
            sha256_hex: of the whole token, as that server stores it.
            terms: what the token is good for here.
            actor: who imports it.
            uses: how often it was redeemed there.

        Raises:
            DigestError, TokenTermsError: what was said cannot be meant.
            TokenExistsError: the token is known here.
        """
        if not _SHA256.fullmatch(sha256_hex):
            raise DigestError
        checked, digest = checked_terms(terms, now=self._now(), uses=uses), bytes.fromhex(sha256_hex)
        record = await self._tokens.create_token(
            self._new_id(), digest, checked, actor=actor, uses=uses, is_imported=True
        )
        if record is None:
            known = await self._tokens.find_token(digest)
            raise TokenExistsError("" if known is None else f" as {known.id} ({known.terms.label})")
        return record

    async def list(self) -> Sequence[TokenRecord]:
        """Return all tokens, youngest first."""
        return await self._tokens.list_tokens()

    async def find(self, selector: str) -> TokenRecord:
        """Return the one token that is meant.

        Raises:
            TokenNotFoundError, TokenAmbiguousError: it is not exactly one.
        """
        # What no id and no label contains need not be asked for; PostgreSQL would refuse a NUL.
        found = await self._tokens.find_tokens(selector) if selector.isprintable() else ()
        if not found:
            raise TokenNotFoundError(selector)
        if len(found) > 1:
            raise TokenAmbiguousError(selector, found)
        return found[0]

    async def known(self, digest: bytes) -> TokenRecord | None:
        """Return what is stored of a token with this digest, in whatever state; None when it is none of ours."""
        return await self._tokens.find_token(digest)

    async def show(self, selector: str) -> TokenSheet:
        """Return a token with whom it admitted, and whom it did not."""
        record = await self.find(selector)
        admitted = await self._tokens.admitted_agents(record.id, limit=_SHOWN)
        refused = await self._refusals.list_refusals(token_id=record.id, limit=_SHOWN)
        return TokenSheet(record, admitted, refused)

    async def revoke(self, selector: str, *, actor: str, reason: str = "") -> Revoked:
        """Let a token admit nobody any more. Agents that it admitted stay; a second time changes nothing."""
        record = await self.find(selector)
        revoked_now = await self._tokens.revoke_token(record.id, actor=actor, reason=reason)
        return Revoked(await self.find(record.id), already=not revoked_now)

    async def refusals(
        self, *, selector: str | None = None, reason: Refusal | None = None, limit: int
    ) -> Sequence[RefusalRecord]:
        """Return who was not admitted, latest first; of one token, of one reason, or of all.

        Raises:
            TokenNotFoundError, TokenAmbiguousError: the token is not exactly one.
        """
        token_id = None if selector is None else (await self.find(selector)).id
        return await self._refusals.list_refusals(token_id=token_id, reason=reason, limit=limit)

    def _new_id(self) -> str:
        return self._random_bytes(_ID_BYTES).hex()

"""The operators' desk of the server CA: which ones there are, who believes them, and the next step.

Steps are ``authority.server_ca``'s; here they are refused while too few agents can follow, unless they are forced.
With a configured certificate (``INGEST_TLS_CERT``) steps are the operator's own: what is in ``INGEST_TLS_CA`` is
announced, and this desk says who believes it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.authority import server_ca
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_ca import ServerCas, StepError
from ct_ops_server.fleet.anchor_log import AnchorStore
from ct_ops_server.fleet.following import Following, objections


class Step(StrEnum):
    """What can be done about the server CA."""

    PREPARE = "prepare"
    ACTIVATE = "activate"
    RETIRE = "retire"


class TooFewFollowError(Exception):
    """Too many agents would be cut off. ``str()`` says which and what to do."""


class DeskStore(AnchorStore, Protocol):
    """What agents believe, and the audit log."""

    async def note_decision(self, decision: Decision) -> None:
        """Record a step. Raises ``StoreError``."""


@dataclass(frozen=True, slots=True)
class CaView:
    """A server CA as operators see it."""

    sha256: bytes
    subject: str
    role: str
    """``signs``, ``next``, ``before``; ``announced`` for a configured one that does not sign."""
    not_after: datetime
    following: Following


@dataclass(frozen=True, slots=True)
class ServerCaOverview:
    """Everything."""

    cas: Sequence[CaView]
    is_our_own: bool
    pin_is_leaf: bool
    vouched: bool
    """Whether the one that signs (or the next one, before that) is vouched for by the one before."""
    activates_by_itself_at: datetime | None
    certificate_not_after: datetime
    existing_end: datetime
    """When what existing agents believe ends."""

    @property
    def newest(self) -> CaView | None:
        """The one that agents shall come to believe."""
        return next((each for each in self.cas if each.role == "next"), self.cas[0] if self.cas else None)


_ACTIONS = {
    Step.PREPARE: (Action.SERVER_CA_PREPARED, server_ca.prepare),
    Step.ACTIVATE: (Action.SERVER_CA_ACTIVATED, server_ca.activate),
    Step.RETIRE: (Action.SERVER_CA_RETIRED, server_ca.retire),
}


class ServerCaDesk:
    """Shows and steps."""

    def __init__(
        self,
        store: DeskStore,
        served: ServedTls,
        secret: SealingSecret,
        *,
        data_dir: Path,
        alone: Callable[[Path], AbstractContextManager[None]],
        now: Callable[[], datetime],
    ) -> None:
        """Prepare; ``alone`` keeps other workers from the data directory's files."""
        self._store = store
        self._served = served
        self._secret = secret
        self._data_dir = data_dir
        self._alone = alone
        self._now = now

    async def overview(self) -> ServerCaOverview:
        """Return what there is, and who believes it. Raises ``StoreError``."""
        tls = self._served.current
        cas = await asyncio.to_thread(self._open) if self._is_our_own else None
        parsed = [x509.load_der_x509_certificate(der) for der in tls.anchors]
        shown = parsed if cas is None else list(cas.announced)
        views = [await self._view(each, _role(each, n, cas)) for n, each in enumerate(shown)]
        return ServerCaOverview(
            cas=views,
            is_our_own=self._is_our_own,
            pin_is_leaf=tls.pin_is_leaf,
            vouched=cas is not None and _is_vouched(cas),
            activates_by_itself_at=None if cas is None else _due(cas),
            certificate_not_after=tls.not_after,
            existing_end=tls.existing_end,
        )

    async def objections(self, step: Step) -> tuple[str, ...]:
        """Return what speaks against a step. Raises ``StoreError``."""
        if step is Step.PREPARE:
            return ()
        seen = await self.overview()
        if seen.newest is None:
            return ()
        return objections(seen.newest.following, vouched=seen.vouched and step is Step.ACTIVATE)

    async def take(self, step: Step, *, force: bool, actor: str) -> ServerCaOverview:
        """Take a step.

        Raises:
            StepError: it does not follow now.
            TooFewFollowError: agents would be cut off, and it is not forced.
            AuthorityError: a file is damaged or cannot be written.
            StoreError: nobody knows who can follow.
        """
        if not self._is_our_own:
            raise StepError(
                "the server's certificate is configured: put the next CA into INGEST_TLS_CA beside the one that signs, "
                "wait until agents believe it, and then replace INGEST_TLS_CERT"
            )
        against = await self.objections(step)
        if against and not force:
            raise TooFewFollowError("; ".join((*against, "or --force it")))
        _action, do = _ACTIONS[step]
        cas = await asyncio.to_thread(self._do, do)
        newest = cas.following or cas.signs
        await self._store.note_decision(decision_of(step, newest.der, actor=actor, forced=bool(against)))
        return await self.overview()

    @property
    def _is_our_own(self) -> bool:
        return self._served.current.state_file is not None

    def _open(self) -> ServerCas:
        return self._do(server_ca.open_server_cas)

    def _do(self, do: Callable[..., ServerCas]) -> ServerCas:
        with self._alone(self._data_dir):
            return do(self._data_dir, self._secret, now=self._now())

    async def _view(self, certificate: x509.Certificate, role: str) -> CaView:
        digest = certificate.fingerprint(hashes.SHA256())
        return CaView(
            sha256=digest,
            subject=certificate.subject.rfc4514_string(),
            role=role,
            not_after=certificate.not_valid_after_utc,
            following=await self._store.following(digest),
        )


def decision_of(step: Step, der: bytes, *, actor: str, forced: bool) -> Decision:
    """Return a step of a server CA (DER) for the audit log."""
    action, _do = _ACTIONS[step]
    return Decision(action, actor, subject=hashlib.sha256(der).hexdigest(), details={"forced": forced})


def _role(certificate: x509.Certificate, number: int, cas: ServerCas | None) -> str:
    if number == 0:
        return "signs"
    if cas is None:
        return "announced"
    return "next" if cas.following is not None and certificate == cas.following.certificate else "before"


def _is_vouched(cas: ServerCas) -> bool:
    if cas.following is not None:
        return server_ca.may_vouch(cas.signs.certificate)
    return bool(cas.crosses)


def _due(cas: ServerCas) -> datetime | None:
    return None if cas.following is None else server_ca.activated_at(cas.signs.certificate)

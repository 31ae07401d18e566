"""The operators' desk of the server CA: which ones there are, who believes them, and the next step.

Steps are ``authority.server_ca``'s; here they are refused while too few agents can follow, unless they are forced.
With a configured certificate (``INGEST_TLS_CERT``) steps are the operator's own: what is in ``INGEST_TLS_CA`` is
announced, and this desk says who believes it. Looking changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ct_ops_server.authority import server_ca
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_ca import StepError, Turn
from ct_ops_server.authority.server_ca_chain import left_out
from ct_ops_server.authority.server_ca_lineage import Lineage
from ct_ops_server.fleet.anchor_log import AnchorStore
from ct_ops_server.fleet.following import Following, objections
from ct_ops_server.fleet.shared_server_cas import TOPIC, SharedServerCas

_LOOK_AGAIN_S = 0.25
_LOOKS = 40


class Step(StrEnum):
    """What operators can do about the server CA."""

    PREPARE = "prepare"
    ACTIVATE = "activate"
    RETIRE = "retire"


class TooFewFollowError(Exception):
    """Too many agents would be cut off. ``str()`` says which and what to do."""


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
    """Whether all that have not ended lead to the one that signs (or to the next one, before that)."""
    activates_by_itself_at: datetime | None
    certificate_not_after: datetime
    existing_end: datetime
    """When what existing agents believe ends."""
    problem: str = ""
    """Why this server does not do what it should."""
    nodes_behind: Sequence[str] = ()
    """Those that do not act by the latest step yet."""


class ServerCaDesk:
    """Shows and steps."""

    def __init__(
        self,
        store: AnchorStore,
        served: ServedTls,
        shared: SharedServerCas,
        *,
        hint: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        """Prepare; ``hint`` tells the push bus of this process."""
        self._store = store
        self._served = served
        self._shared = shared
        self._hint = hint
        self._now = now

    async def overview(self) -> ServerCaOverview:
        """Return what there is, and who believes it. Raises ``StoreError``, ``AuthorityError``."""
        return await self._overview_of(await self._shared.here() if self._is_our_own else None)

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
        found = await self._shared.settle()
        against = (*await self._objections(step, found), *await self._lagging(step, found))
        if against and not force:
            raise TooFewFollowError("; ".join((*against, "or --force it")))
        later = await self._shared.take(Turn(step), actor=actor, forced=bool(against), planned_for=found)
        self._hint(TOPIC)
        return await self._overview_of(later)

    async def _objections(self, step: Step, found: Lineage) -> Sequence[str]:
        if step is Step.RETIRE and found.before:
            return objections(await self._store.following(found.signs.sha256), vouched=False)
        if step is not Step.ACTIVATE or found.following is None:
            return ()
        now = self._now()
        later, chain = server_ca.after_activation(found, now)
        if left_out(later, chain, now):
            led = await self._store.following(*(each.sha256 for each in chain.led))
            if at_once := objections(led, vouched=False):
                return at_once
        return objections(await self._store.following(found.following.sha256), vouched=True)

    async def _lagging(self, step: Step, found: Lineage) -> Sequence[str]:
        """Return who would go on to show what agents forget. Nodes follow within seconds, so that is waited for."""
        if step is not Step.RETIRE or not found.before:
            return ()
        for _ in range(_LOOKS):
            if not (behind := await self._shared.nodes_behind(found)):
                return ()
            self._hint(TOPIC)
            await asyncio.sleep(_LOOK_AGAIN_S)
        return (
            f"{', '.join(behind)} does not follow the step before: it is of an earlier version, or its log says why",
        )

    @property
    def _is_our_own(self) -> bool:
        return self._served.current.state_file is not None

    async def _overview_of(self, found: Lineage | None) -> ServerCaOverview:
        tls, now = self._served.current, self._now()
        if found is None:
            configured = [x509.load_der_x509_certificate(der) for der in tls.anchors]
            views = [
                await self._view(each, "announced" if n else "signs") for n, each in enumerate(configured)
            ]
        else:
            views = [await self._view(each.certificate, each.role) for each in found.announced(now)]
        return ServerCaOverview(
            cas=views,
            is_our_own=self._is_our_own,
            pin_is_leaf=tls.pin_is_leaf,
            vouched=found is not None and server_ca.leads_everybody(found, now),
            activates_by_itself_at=None if found is None else _due(found),
            certificate_not_after=tls.not_after,
            existing_end=tls.existing_end,
            problem=self._shared.problem if self._is_our_own else "",
            nodes_behind=() if found is None else await self._shared.nodes_behind(found),
        )

    async def _view(self, certificate: x509.Certificate, role: str) -> CaView:
        digest = certificate.fingerprint(hashes.SHA256())
        return CaView(
            sha256=digest,
            subject=certificate.subject.rfc4514_string(),
            role=str(role),
            not_after=certificate.not_valid_after_utc,
            following=await self._store.following(digest),
        )


def _due(found: Lineage) -> datetime | None:
    return None if found.following is None else server_ca.activated_at(found)

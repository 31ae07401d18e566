"""Proving the agent's key: signing a challenge of the server, for this server and for one purpose.

The signature names the certificate of this server, as this agent has verified it itself, whatever roots it believes:
a server that relays another one's challenge gets a proof that is good for nobody but itself.

This module loads `cryptography`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from ct_ops_agent.control_plane import Challenge, KeyProof, Registration
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.certificates import sign
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_proto.key_proof import deregistration_text, signed_text

_LOOKS = 4
"""How often to look for the certificate that a challenger names, before a proof is given up."""


class Challenges(Protocol):
    """What of a session a proof needs."""

    async def challenge(self, public_key_pem: str) -> Challenge | None:
        """Ask for a nonce to sign; ``None`` from a server that knows no challenges."""

    async def server_certificate(self) -> bytes:
        """Return the certificate (DER) that the server shows on another connection, verified like this one's."""


@dataclass(frozen=True)
class _Challenged:
    nonce: bytes
    shown: bytes


class Prover:
    """Signs the server's challenge with the agent's key.

    Each method returns ``None`` where no proof can be made.

    Raises:
        EnrolmentRefusedError, UnreachableError: as ``Session.challenge``; or the server does not show the
            certificate that the challenger names.
    """

    def __init__(self, keys: KeyPair) -> None:
        self._keys = keys

    async def prove(self, session: Challenges, registration: Registration) -> KeyProof | None:
        """Return a fresh proof for this registration."""
        challenged = await self._challenged(session)
        if challenged is None:
            return None
        text = signed_text(
            nonce=challenged.nonce, server_certificate_der=challenged.shown, csr_der=registration.csr_der
        )
        return KeyProof(challenged.nonce, sign(self._keys, text))

    async def prove_departure(self, session: Challenges, agent_id: str) -> KeyProof | None:
        """Return a fresh proof that this agent is to be deregistered."""
        challenged = await self._challenged(session)
        if challenged is None:
            return None
        text = deregistration_text(
            nonce=challenged.nonce, server_certificate_der=challenged.shown, agent_id=agent_id
        )
        return KeyProof(challenged.nonce, sign(self._keys, text))

    async def _challenged(self, session: Challenges) -> _Challenged | None:
        challenge = await session.challenge(self._keys.public_pem)
        if challenge is None:
            return None
        return _Challenged(challenge.nonce, await _look_for(challenge.server_certificate_sha256, session))


async def _look_for(named_sha256: bytes, session: Challenges) -> bytes:
    """Return the server's certificate; of several servers behind one name, the one that is named."""
    for _ in range(_LOOKS):
        shown = await session.server_certificate()
        if not named_sha256 or hashlib.sha256(shown).digest() == named_sha256:
            return shown
    raise UnreachableError(
        "the challenge to this agent's key is of a server with another certificate than the one that is shown here: "
        "either several servers share this name, which need one certificate, or somebody is in between"
    )

"""Opens what this server signs with: rows say which agent CA and token key are active, files and rows hold keys.

The first agent CA and token key lie in files of the data directory, or where the operator names them, and the
database learns of them here. From the first rotation on private keys come sealed out of the database, so that
every node has them (ADR 16); a file of one that is retired is erased. What a start decides:

* the database knows none as active: the one in the files, which are made when there are none;
* the files hold another than the active one, which a rotation has brought: the active one, the files are stale;
* the files hold one that nobody knows: an operator replaced it. With nobody else running it takes the place of
  the active one, at once and without an overlap. While another server runs, the start is refused;
* ``INGEST_AGENT_CA_CERT`` names one that nobody knows, and another is active: it is prepared, and waits for
  ``ca rotate``.

A running server looks for later versions with ``refresh``; one that it cannot act by changes nothing, and is not
reported, so no step follows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ct_ops_server.audit.decisions import SERVER
from ct_ops_server.authority.ca import erase_authority, load_or_create_authority, name_on_disk
from ct_ops_server.authority.decided import step_taken
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.files import erase
from ct_ops_server.authority.issuer import Issuer, must_be_usable, open_brought, sealed_key_of
from ct_ops_server.authority.jwks import (
    EXISTING_FILE,
    SigningKey,
    key_name,
    load_or_create_signing_key,
    load_signing_key,
    public_pem,
    signing_key_file,
)
from ct_ops_server.authority.life_cycle import Kind, Step, TrustState, moving_of
from ct_ops_server.authority.ports import (
    Change,
    NewKey,
    StoredKey,
    StoredTrust,
    TrustChangedError,
    TrustStore,
)
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.trust import KeysHere, LiveTrust, Trust, assemble
from ct_ops_server.config.schema import Settings

_log = logging.getLogger("ct_ops_server.authority")
_ATTEMPTS = 5


class Keyring:
    """The agent CAs and token keys of one process."""

    def __init__(
        self,
        settings: Settings,
        secret: SealingSecret,
        store: TrustStore,
        *,
        brought: Issuer | None,
        now: Callable[[], datetime],
    ) -> None:
        """Prepare; ``brought`` is the agent CA that the settings name."""
        self._data_dir = settings.data_dir
        self._signing_file = signing_key_file(
            configured=settings.jwt_key_file, existing=EXISTING_FILE, data_dir=settings.data_dir
        )
        self._secret = secret
        self._store = store
        self._brought = brought
        self._now = now
        self._files = KeysHere()
        self._signing_file_holds: SigningKey | None = None
        """Read once: to check an RSA key takes longer than everything else of a start."""
        self.made: tuple[str, ...] = ()
        """A sentence for each file that was made."""

    async def open(self) -> LiveTrust:
        """Settle which ones are active and return them.

        Raises:
            AuthorityError: a key is missing, damaged, sealed with another secret, or not the running servers'.
            StoreError: the store did not answer.
        """
        if self._brought is not None:
            must_be_usable(self._brought, self._now())
        return LiveTrust(await self._settle())

    async def read(self) -> Trust:
        """Return the latest version.

        Raises:
            AuthorityError: this process cannot act by it.
            StoreError: the store did not answer.
        """
        stored = await self._store.load()
        trust = assemble(stored, self._secret, self._files)
        self._erase_retired(stored)
        return trust

    async def _settle(self) -> Trust:
        for _ in range(_ATTEMPTS):
            stored = await self._store.load()
            self._files = self._load_files(stored)
            change = self._change_of_authority(stored) or self._change_of_signing_key(stored)
            if change is None:
                return await self.read()
            try:
                await self._store.change(change)
            except TrustChangedError as error:
                if change.only_without_workers and not await self._has_moved(stored):
                    raise self._belongs_to_another(change.kind) from error
        raise AuthorityError(self._data_dir, "was changed by others again and again. Start again.")

    async def _has_moved(self, seen: StoredTrust) -> bool:
        return (await self._store.load()).version != seen.version

    def _load_files(self, stored: StoredTrust) -> KeysHere:
        issuers = [] if self._brought is None else [self._brought]
        if self._needs_file_of_authority(stored):
            authority = load_or_create_authority(self._data_dir, self._secret, now=self._now())
            self.made += authority.made
            issuers.append(authority.issuer)
        return KeysHere(tuple(issuers), (signing,) if (signing := self._load_signing(stored)) else ())

    def _needs_file_of_authority(self, stored: StoredTrust) -> bool:
        on_disk, active = name_on_disk(self._data_dir), stored.active(Kind.CA)
        if self._is_stale(stored, Kind.CA, on_disk):
            return False
        if on_disk is not None:
            return True
        return self._brought is None and (active is None or active.sealed_key is None)

    def _load_signing(self, stored: StoredTrust) -> SigningKey | None:
        found = self._signing_file_holds or load_signing_key(self._signing_file, self._data_dir, self._secret)
        active = stored.active(Kind.JWT)
        if found is None and (active is None or active.sealed_key is None):
            found = load_or_create_signing_key(
                configured=self._signing_file,
                existing=EXISTING_FILE,
                data_dir=self._data_dir,
                secret=self._secret,
            )
            self.made += found.made
        self._signing_file_holds = found
        return found

    @staticmethod
    def _is_stale(stored: StoredTrust, kind: Kind, name: str | None) -> bool:
        """Return whether a rotation has gone past what lies in the files."""
        active = stored.active(kind)
        if active is None or name is None or active.sealed_key is None:
            return False
        known = stored.find(kind, name)
        return known is not None and known.state is TrustState.RETIRED

    def _change_of_authority(self, stored: StoredTrust) -> Change | None:
        active, brought = stored.active(Kind.CA), self._brought
        if brought is not None and active is not None and active.name != brought.sha256.hex():
            return self._prepare_brought(stored, active, brought)
        here = next(iter(self._files.issuers), None)
        if here is None or (active is not None and here.sha256.hex() == active.name):
            return None
        new = NewKey(here.sha256.hex(), here.pem, TrustState.ACTIVE)
        return _replacement(stored, Kind.CA, new)

    def _prepare_brought(self, stored: StoredTrust, active: StoredKey, brought: Issuer) -> Change | None:
        known = stored.find(Kind.CA, brought.sha256.hex())
        if known is not None:
            if known.state in {TrustState.OUTGOING, TrustState.RETIRED}:
                _log.warning(
                    "INGEST_AGENT_CA_CERT names an agent CA that is %s: name the next one, or none",
                    known.state,
                )
            return None
        if (moving := moving_of(stored.held(Kind.CA))) is not None:
            _log.warning(
                "INGEST_AGENT_CA_CERT names a new agent CA, and %s is %s: finish that rotation and start again",
                moving.name[:16], moving.state,
            )  # fmt: skip
            return None
        _log.warning(
            "the agent CA in INGEST_AGENT_CA_CERT is prepared: `ct-ops-server ca rotate` activates it"
        )
        new = NewKey(brought.sha256.hex(), brought.pem, TrustState.PREPARED)
        sealed = {new.name: sealed_key_of(brought, self._secret)}
        for issuer in self._files.issuers:
            if issuer.sha256.hex() == active.name:
                sealed[active.name] = sealed_key_of(issuer, self._secret)
        entry = step_taken(Kind.CA, Step.PREPARE, new.name, actor=SERVER)
        return Change(
            Kind.CA, new=new, sealed_keys=sealed, expected_version=stored.version, decisions=[entry]
        )

    def _change_of_signing_key(self, stored: StoredTrust) -> Change | None:
        here, active = next(iter(self._files.signing), None), stored.active(Kind.JWT)
        if here is None:
            return None
        new = NewKey(key_name(here.public_key), public_pem(here), TrustState.ACTIVE)
        if active is not None and active.name == new.name:
            return None
        return _replacement(stored, Kind.JWT, new)

    def _erase_retired(self, stored: StoredTrust) -> None:
        """Erase our own files of what a rotation has gone past; an operator's file is the operator's."""
        if self._is_stale(stored, Kind.CA, name_on_disk(self._data_dir)):
            erase_authority(self._data_dir)
            _log.warning("the agent CA in %s is retired: its private key is erased", self._data_dir)
        for signing in self._files.signing:
            if self._is_stale(stored, Kind.JWT, key_name(signing.public_key)):
                self._erase_signing_key(signing.file)

    def _erase_signing_key(self, file: Path) -> None:
        self._files = KeysHere(self._files.issuers)
        if file.parent == self._data_dir:
            erase(file)
            _log.warning("the key of agent tokens in %s is retired: it is erased", file)
        else:
            _log.warning("the key of agent tokens in %s is retired: erase it", file)

    def _belongs_to_another(self, kind: Kind) -> AuthorityError:
        if kind is Kind.CA:
            return AuthorityError(
                self._data_dir / "agent-ca.crt",
                "is not the agent CA of the server that is running on this database. Copy agent-ca.crt, agent-ca.key "
                "and the secret from that server's data directory into this one.",
            )
        return AuthorityError(
            self._signing_file,
            "is not the key of agent tokens of the server that is running on this database. Copy jwt_key.pem and the "
            "secret from that server's data directory into this one.",
        )


def brought_authority(settings: Settings, secret: SealingSecret) -> Issuer | None:
    """Return the agent CA that the settings name.

    Raises:
        WrongSecretError: its key is sealed with another secret than ours.
        AuthorityError: it cannot be read, or certificate and key do not belong together.
    """
    certificate, key = settings.agent_ca_cert, settings.agent_ca_key
    if certificate is None or key is None:
        return None
    origin = Path("INGEST_AGENT_CA_CERT" if certificate.path is None else certificate.path)
    try:
        return open_brought(origin, certificate.read(), key.read(), secret)
    except OSError as error:
        raise AuthorityError(origin, f"or its key cannot be read ({error.strerror}).") from error


def _replacement(stored: StoredTrust, kind: Kind, new: NewKey) -> Change | None:
    """Return what makes ``new`` active at once; None when a rotation has brought the one that is."""
    active = stored.active(kind)
    entry = step_taken(kind, Step.ACTIVATE, new.name, actor=SERVER)
    if active is None:
        states = {new.name: TrustState.ACTIVE}
        return Change(kind, states, new, expected_version=stored.version, decisions=[entry])
    if active.sealed_key is not None and stored.find(kind, new.name) is not None:
        return None
    return Change(
        kind,
        {active.name: TrustState.RETIRED, new.name: TrustState.ACTIVE},
        new,
        expected_version=stored.version,
        only_without_workers=True,
        decisions=[entry, step_taken(kind, Step.RETIRE, active.name, actor=SERVER)],
    )

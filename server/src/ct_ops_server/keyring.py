"""Opens what this server signs with: rows say which agent CA and token key are active, files and rows hold keys.

The first agent CA and token key lie in files of the data directory, or where the operator names them, and the
database learns of them here. From the first rotation on private keys come sealed out of the database, so that
every node has them (ADR 16); a file of one that is retired is erased. What a start does is a table
(``authority.starting``), for both kinds; nothing that merely lies on a host takes the place of an active one (ADR 22).

A running server looks for later versions with ``refresh``; one that it cannot act by changes nothing, and is not
reported, so no step follows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ct_ops_server.authority.brought import Brought, looked_at
from ct_ops_server.authority.ca import erase_authority, load_or_create_authority, name_on_disk
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.files import erase
from ct_ops_server.authority.issuer import Issuer
from ct_ops_server.authority.jwks import (
    EXISTING_FILE,
    SigningKey,
    key_name,
    load_or_create_signing_key,
    load_signing_key,
)
from ct_ops_server.authority.key_search import Looked, look_for_authority, look_for_signing_key
from ct_ops_server.authority.life_cycle import Kind, TrustState, moving_of
from ct_ops_server.authority.ports import Change, StoredTrust, TrustChangedError, TrustStore
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.start_changes import adopted, lost_replaced, named_prepared, named_renewed
from ct_ops_server.authority.start_sentences import WORDS, key_is_nowhere, prepared, remark_on, renewed
from ct_ops_server.authority.starting import Move, Named, Remark, Rule, StartRefusedError, rule_for
from ct_ops_server.authority.trust import KeysHere, LiveTrust, Trust, assemble
from ct_ops_server.config.schema import Settings

_log = logging.getLogger("ct_ops_server.authority")
_ATTEMPTS = 5
_SIGNING_OR_NOBODY = {Named.NOTHING, Named.ACTIVE, Named.PREPARED}


class Keyring:
    """The agent CAs and token keys of one process."""

    def __init__(
        self,
        settings: Settings,
        secret: SealingSecret,
        store: TrustStore,
        *,
        brought: Brought | None,
        now: Callable[[], datetime],
    ) -> None:
        """Prepare; ``brought`` is the agent CA that the settings name."""
        self._data_dir = settings.data_dir
        self._signing_file = settings.jwt_key_file
        self._secret = secret
        self._store = store
        self._brought = brought
        self._now = now
        self._files = KeysHere()
        self._signing_files: dict[Path, SigningKey] = {}
        """Read once: to check an RSA key takes longer than everything else of a start."""
        self.made: tuple[str, ...] = ()
        """A sentence for each file that was made."""

    async def open(self) -> LiveTrust:
        """Settle which ones are active and return them.

        Raises:
            StartRefusedError: the active one's private key is nowhere, or what is named cannot be used.
            AuthorityError: a key is damaged, or sealed with another secret.
            StoreError: the store did not answer.
        """
        for _ in range(_ATTEMPTS):
            stored = await self._store.load()
            if not await self._moved(Kind.CA, stored) and not await self._moved(Kind.JWT, stored):
                return LiveTrust(await self.read())
        raise AuthorityError(self._data_dir, "was changed by others again and again. Start again.")

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

    async def replace_lost(self, kind: Kind, *, actor: str) -> str:
        """Go on without the active one's private key, which is lost: a new one signs at once; return its name.

        What the lost one has signed stays good until it is retired.

        Raises:
            StartRefusedError: it is not lost, or a server runs, which has it.
            StoreError: the store did not answer.
        """
        stored = await self._store.load()
        active, moving = stored.active(kind), moving_of(stored.held(kind))
        if active is None or self._look(kind, stored).situation.has_key:
            raise StartRefusedError(self._data_dir, "nothing is lost: the private key that signs is at hand.")
        if moving is not None:
            raise StartRefusedError(
                self._data_dir, f"{moving.name[:16]} is {moving.state}: finish that rotation first."
            )
        change = lost_replaced(kind, active, stored.version, self._secret, actor=actor, now=self._now())
        try:
            await self._store.change(change)
        except TrustChangedError as error:
            raise StartRefusedError(
                self._data_dir, f"nothing was done: {error}, and has the key. Copy it from there."
            ) from error
        assert change.new is not None
        return change.new.name

    async def _moved(self, kind: Kind, stored: StoredTrust) -> bool:
        """Do what the table says. False: one is active and its key is at hand, so the start goes on."""
        looked = self._look(kind, stored)
        rule = rule_for(looked.situation)
        match rule.move:
            case Move.REFUSE:
                raise self._refusal(kind, rule, looked, stored)
            case Move.GO_ON:
                self._remark(kind, rule, looked, stored)
                return False
            case Move.MAKE:
                self._make(kind)
                return True
        try:
            await self._store.change(self._change(kind, rule.move, looked, stored))
        except TrustChangedError:
            return True
        if rule.move is Move.PREPARE:
            _log.warning(prepared(kind))
        if rule.move is Move.RENEW and looked.stored is not None:
            _log.warning(renewed(looked.stored.name))
        return True

    def _look(self, kind: Kind, stored: StoredTrust) -> Looked:
        """Look for private keys, and keep what is found for when a step is read."""
        if kind is Kind.CA:
            brought = None if self._brought is None else looked_at(self._brought, self._now())
            looked = look_for_authority(self._data_dir, self._secret, stored, brought)
            issuers = tuple(each for each in looked.keys if isinstance(each, Issuer))
            self._files = replace(self._files, issuers=issuers)
            return looked
        looked = look_for_signing_key(self._signing_file, self._data_dir, stored, self._load_signing)
        signing = tuple(each for each in looked.keys if isinstance(each, SigningKey))
        self._files = replace(self._files, signing=signing)
        return looked

    def _load_signing(self, file: Path) -> SigningKey | None:
        found = self._signing_files.get(file) or load_signing_key(file, self._data_dir, self._secret)
        if found is not None:
            self._signing_files[file] = found
        return found

    def _make(self, kind: Kind) -> None:
        if kind is Kind.CA:
            self.made += load_or_create_authority(self._data_dir, self._secret, now=self._now()).made
        else:
            signing = load_or_create_signing_key(
                configured=self._signing_file,
                existing=EXISTING_FILE,
                data_dir=self._data_dir,
                secret=self._secret,
            )
            self._signing_files[signing.file] = signing
            self.made += signing.made

    def _change(self, kind: Kind, move: Move, looked: Looked, stored: StoredTrust) -> Change:
        key = looked.kept if move is Move.ADOPT_KEPT else looked.named
        if key is None:
            raise looked.defect or StartRefusedError(
                self._data_dir, "holds keys that the database calls retired."
            )
        if move is Move.PREPARE:
            return named_prepared(kind, key, looked.keys, stored, self._secret)
        if move is Move.RENEW:
            assert isinstance(key, Issuer)
            assert looked.stored is not None
            return named_renewed(key, looked.stored, stored.version, self._secret)
        return adopted(kind, key, stored.version)

    def _refusal(self, kind: Kind, rule: Rule, looked: Looked, stored: StoredTrust) -> AuthorityError:
        says_why = rule.remark is Remark.NAMED_IS_UNUSABLE or looked.situation.named in _SIGNING_OR_NOBODY
        if looked.defect is not None and says_why:
            return looked.defect  # it is here, and cannot be used
        active = stored.active(kind)
        name = "" if active is None else active.name[:16]
        return StartRefusedError(
            Path(f"{WORDS[kind].what} {name}"), key_is_nowhere(kind, beside=looked.beside)
        )

    def _remark(self, kind: Kind, rule: Rule, looked: Looked, stored: StoredTrust) -> None:
        found, moving = looked.situation, moving_of(stored.held(kind))
        if rule.remark is Remark.KEPT_IS_A_STRANGER and looked.defect is not None:
            _log.warning("not needed, and left alone: %s", looked.defect)
        elif rule.remark is not Remark.NOTHING:
            sentence = remark_on(
                kind,
                rule.remark,
                state="" if looked.stored is None else looked.stored.state.value,
                moving="" if moving is None else f"{moving.name[:16]} is {moving.state}",
                kept=looked.beside,
                why=str(looked.defect or ""),
            )
            _log.warning(sentence)
        if kind is Kind.JWT and self._signing_file is not None and found.named is Named.NOTHING:
            _log.warning(
                "INGEST_JWT_KEY_FILE names %s, which is not there; the key that the database knows signs on",
                self._signing_file,
            )

    def _erase_retired(self, stored: StoredTrust) -> None:
        """Erase our own files of what a rotation has gone past; an operator's file is the operator's."""
        if _is_stale(stored, Kind.CA, name_on_disk(self._data_dir)):
            erase_authority(self._data_dir)
            _log.warning("the agent CA in %s is retired: its private key is erased", self._data_dir)
        for signing in self._files.signing:
            if _is_stale(stored, Kind.JWT, key_name(signing.public_key)):
                self._erase_signing_key(signing)

    def _erase_signing_key(self, signing: SigningKey) -> None:
        self._files = replace(
            self._files, signing=tuple(each for each in self._files.signing if each is not signing)
        )
        if signing.file.parent == self._data_dir:
            erase(signing.file)
            _log.warning("the key of agent tokens in %s is retired: it is erased", signing.file)
        else:
            _log.warning("the key of agent tokens in %s is retired: erase it", signing.file)


def _is_stale(stored: StoredTrust, kind: Kind, name: str | None) -> bool:
    """Return whether a rotation has gone past what lies in the files."""
    active = stored.active(kind)
    if active is None or name is None or active.sealed_key is None:
        return False
    known = stored.find(kind, name)
    return known is not None and known.state is TrustState.RETIRED

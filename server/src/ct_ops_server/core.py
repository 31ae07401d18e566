"""What works without a network: an open installation, with its store, its keys and whom it trusts.

A running server adds the edge to it; a command that finds no server opens it for itself, with the ``desks``. Both hold the
data directory while they do.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ct_ops_server.audit.heads import key_name
from ct_ops_server.audit.reading import DIRECTORY
from ct_ops_server.audit.watching import Watcher
from ct_ops_server.audit.writing import FileLimits, Signer
from ct_ops_server.authority.agent_token import TokenSigner
from ct_ops_server.authority.brought import brought_authority
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.leaf_identity import LeafIdentity, identify
from ct_ops_server.authority.life_cycle import Kind
from ct_ops_server.authority.rotation import AuthorityDesk
from ct_ops_server.authority.sealing import load_or_create_secret
from ct_ops_server.authority.trust import LiveTrust
from ct_ops_server.backup.belongings import RESTORE_MARK
from ct_ops_server.config.schema import Settings
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.fleet.resolutions import Keeping
from ct_ops_server.fleet.shared_server_cas import SharedServerCas
from ct_ops_server.keyring import Keyring
from ct_ops_server.keys import Keys, open_keys
from ct_ops_server.ownership import one_at_a_time
from ct_ops_server.public_address import Whereabouts
from ct_ops_server.releases.shelf import Shelf
from ct_ops_server.store.audit_following import Follower, Place
from ct_ops_server.store.audit_key_announcing import KeyAnnouncer
from ct_ops_server.store.audit_recording import Recorder
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.installation import Installation
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.writer import WriterObserver

_AGENT_ID_BYTES = 12


def keeping_of(settings: Settings) -> Keeping:
    """Return how long each resolution of samples is kept."""
    return Keeping(
        settings.samples_keep, settings.samples_keep_1m, settings.samples_keep_1h, settings.samples_keep_1d
    )


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Core:
    """An open installation."""

    settings: Settings
    store: Store
    installation: Installation
    keys: Keys
    keyring: Keyring
    trust: LiveTrust
    """Whom this process trusts and what it signs with; changes while it runs."""
    server_cas: SharedServerCas
    """The CAs of our own server certificate, as all nodes have them."""
    enrolment: Enrolment
    shelf: Shelf
    whereabouts: Whereabouts
    now: Callable[[], datetime]

    def identify(self, leaf_der: bytes | None) -> LeafIdentity:
        """Decide what a presented leaf makes of its bearer, now."""
        return identify(
            leaf_der,
            authorities=self.trust.current.authorities,
            installation_id=self.installation.id,
            now=self.now(),
        )

    def jwks(self) -> Mapping[str, Any]:
        """Return the public keys of agent tokens that may be good."""
        return self.trust.jwks(self.now())

    def authority_desk(self, *, hint: Callable[[str], None]) -> AuthorityDesk:
        """Return what operators ask of the authority; ``hint`` tells the push bus of this process."""
        return AuthorityDesk(self.store.trust, self.trust, self.keys.secret, hint=hint, now=self.now)

    def audit_place(self) -> Place:
        """Return where the audit log's files are, and who signs them."""
        settings, key = self.settings, self.keys.audit.key
        limits = FileLimits(settings.audit_file_mib * 2**20, keep=settings.audit_files_keep)
        signer = Signer(self.installation.id, key_name(key.public_key()), key.sign)
        return Place(settings.data_dir / DIRECTORY, signer, limits)

    def audit_follower(self, watcher: Watcher | None = None) -> Follower:
        """Return who writes the audit log's files."""
        key = self.keys.audit
        announcer = KeyAnnouncer(
            self.store.audit, Recorder(self.store.writer).record, key.key.public_key(), before=key.before
        )
        return Follower(
            self.store.audit, self.audit_place(), now_ms=self.now_ms, watcher=watcher, announce=announcer
        )

    def now_ms(self) -> int:
        """Return the present moment, in milliseconds since 1970."""
        return int(self.now().timestamp() * 1000)


@asynccontextmanager
async def open_core(
    settings: Settings,
    *,
    observer: WriterObserver | None = None,
    announce: Callable[[str], None] = lambda _: None,
    now: Callable[[], datetime] = utc_now,
) -> AsyncIterator[Core]:
    """Open the installation; the caller holds the data directory.

    Raises:
        AuthorityError, DatabaseUrlError, SchemaNewerError: something must be put right first.
        StoreError: the database does not answer.
    """
    _refuse_half_a_restore(settings)
    keys = open_keys(settings, now=now())
    for sentence in keys.made:
        announce(f"made {sentence}")
    async with open_store(
        settings.database_url,
        limits=WriterLimits(pending=settings.writer_queue),
        observer=observer,
        series_of_an_agent=settings.series_per_agent,
        pending_of_a_token=settings.pending_per_token,
    ) as store:
        core = await _assemble(settings, store, keys, now)
        for sentence in core.keyring.made:
            announce(f"made {sentence}")
        yield core


async def replace_lost_key(
    settings: Settings, kind: Kind, *, actor: str, now: Callable[[], datetime] = utc_now
) -> str:
    """Have another agent CA or token key sign, whose name is returned; the private key of the active one is lost.

    The caller holds the data directory.

    Raises:
        AuthorityError: it is not lost; or something must be put right first.
        StoreError: the database does not answer.
    """
    secret = load_or_create_secret(settings.secret_file)
    async with open_store(settings.database_url) as store:
        brought = brought_authority(settings, secret)
        keyring = Keyring(settings, secret, store.trust, brought=brought, now=now)
        return await keyring.replace_lost(kind, actor=actor)


async def _assemble(settings: Settings, store: Store, keys: Keys, now: Callable[[], datetime]) -> Core:
    installation = await store.installation.open()
    brought = brought_authority(settings, keys.secret)
    keyring = Keyring(settings, keys.secret, store.trust, brought=brought, now=now)
    trust = await keyring.open()
    enrolment = Enrolment(
        store.enrolment,
        authority=trust.current.authority,
        signer=TokenSigner(trust.current.signing),
        installation_id=installation.id,
        now=now,
        new_agent_id=lambda: secrets.token_hex(_AGENT_ID_BYTES),
    )
    trust.after_change(lambda later: enrolment.sign_with(later.authority, TokenSigner(later.signing)))
    return Core(
        settings=settings,
        store=store,
        installation=installation,
        keys=keys,
        keyring=keyring,
        trust=trust,
        server_cas=SharedServerCas(
            store.server_cas, keys.secret, data_dir=settings.data_dir, alone=one_at_a_time, now=now
        ),
        enrolment=enrolment,
        shelf=Shelf(settings.agent_dist_dir),
        whereabouts=Whereabouts(settings, keys.tls, keys.web_certificate, grpc_port=settings.grpc_port),
        now=now,
    )


def _refuse_half_a_restore(settings: Settings) -> None:
    mark = settings.data_dir / RESTORE_MARK
    if mark.exists():
        raise AuthorityError(
            mark, "marks a restore that did not finish. Run `ct-ops-server db restore FILE --replace` again."
        )

"""What works without a network: the store, the authority, and the desks that operators use.

A running server adds the edge to it; a command that finds no server opens it for itself. Both hold the
data directory while they do.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ct_ops_proto.enrolment_token import ServerHint
from ct_ops_server.audit.desk import AuditDesk
from ct_ops_server.audit.heads import key_name
from ct_ops_server.audit.reading import DIRECTORY
from ct_ops_server.audit.watching import Watcher
from ct_ops_server.audit.writing import FileLimits, Signer
from ct_ops_server.authority.agent_token import TokenSigner
from ct_ops_server.authority.audit_key import AuditKey, load_or_create_audit_key
from ct_ops_server.authority.brought import brought_authority
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.host_names import local_names
from ct_ops_server.authority.leaf_identity import LeafIdentity, identify
from ct_ops_server.authority.life_cycle import Kind
from ct_ops_server.authority.rotation import AuthorityDesk
from ct_ops_server.authority.sealing import SealingSecret, load_or_create_secret
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_certificate import ServerTls, load_configured_tls, load_or_create_tls
from ct_ops_server.authority.text_seal import TextSeal
from ct_ops_server.authority.trust import LiveTrust
from ct_ops_server.authority.web_certificate import WebCertificateFile
from ct_ops_server.backup.belongings import RESTORE_MARK
from ct_ops_server.config.schema import Settings
from ct_ops_server.edge.admin_app import build_admin_app
from ct_ops_server.edge.admin_groups import GroupedApp
from ct_ops_server.edge.admin_parts import AdminParts
from ct_ops_server.enrolment.bundles import BundleDesk, Surroundings
from ct_ops_server.enrolment.carried import CarriedDesk, Meeting
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.enrolment.tokens import TokenDesk
from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.checks import CheckDesk
from ct_ops_server.fleet.clones import CloneDesk
from ct_ops_server.fleet.health import HealthDesk
from ct_ops_server.fleet.resolutions import Keeping
from ct_ops_server.fleet.samples import SampleDesk
from ct_ops_server.fleet.server_ca_desk import ServerCaDesk
from ct_ops_server.fleet.shared_server_cas import SharedServerCas
from ct_ops_server.fleet.work_desk import WorkDesk
from ct_ops_server.keyring import Keyring
from ct_ops_server.ownership import one_at_a_time
from ct_ops_server.public_address import Whereabouts, host_of
from ct_ops_server.releases.install_script import install_offer
from ct_ops_server.releases.release_key import load_signing_key, release_key_text
from ct_ops_server.releases.shelf import Shelf
from ct_ops_server.store.audit_following import Follower, Place
from ct_ops_server.store.audit_key_announcing import KeyAnnouncer
from ct_ops_server.store.audit_recording import Recorder
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.installation import Installation
from ct_ops_server.store.opening import Store, open_store
from ct_ops_server.store.writer import WriterObserver

_log = logging.getLogger("ct_ops_server.keys")
_AGENT_ID_BYTES = 12
_CHECK_ID_BYTES = 8
_WORK_ID_BYTES = 8
_PIN_IS_LEAF = (
    "INGEST_TLS_CERT holds no CA, so this token pins the server's certificate itself and is void once that "
    "is replaced; set INGEST_TLS_CA to the CA's certificate"
)


def keeping_of(settings: Settings) -> Keeping:
    """Return how long each resolution of samples is kept."""
    return Keeping(
        settings.samples_keep, settings.samples_keep_1m, settings.samples_keep_1h, settings.samples_keep_1d
    )


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Keys:
    """What the server shows and seals with, and what of it was made just now. Whom it trusts is the keyring's."""

    secret: SealingSecret
    tls: ServedTls
    web_certificate: WebCertificateFile
    text_seal: TextSeal
    audit: AuditKey
    made: tuple[str, ...]


def open_keys(settings: Settings, *, now: datetime) -> Keys:
    """Load the secret and the server's certificate, making for a newcomer what is missing.

    Raises:
        AuthorityError: something is there and cannot be used.
    """
    secret = load_or_create_secret(settings.secret_file)
    is_our_own = settings.tls_cert is None
    tls = _load_tls(settings, secret, now)
    served = ServedTls(
        tls,
        load=lambda later: _load_tls(settings, secret, later),
        ca_file=settings.tls_ca,
        is_our_own=is_our_own,
    )
    web_certificate = WebCertificateFile(settings.web_server_cert)
    audit = load_or_create_audit_key(settings.data_dir, secret)
    if audit.lost:
        _log.error("%s", audit.lost)
    made = (*secret.made, *tls.made, *audit.made)
    return Keys(secret, served, web_certificate, TextSeal(secret), audit, made)


def _load_tls(settings: Settings, secret: SealingSecret, now: datetime) -> ServerTls:
    if settings.tls_cert is not None and settings.tls_key is not None:
        return load_configured_tls(settings.tls_cert, settings.tls_key, settings.tls_ca)
    hosts = [host_of(address) for address in settings.public_addresses]
    with one_at_a_time(
        settings.data_dir
    ):  # a worker that finds it due finds it done when another one was first
        return load_or_create_tls(settings.data_dir, secret, names=local_names(hosts), now=now)


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

    def admin_app(self, *, hint: Callable[[str], None]) -> GroupedApp:
        """Return the admin API; ``hint`` tells the push bus of this process what was decided."""
        tls = self.keys.tls
        agents = AgentDesk(self.store.agents, hint=hint)
        tokens = TokenDesk(
            self.store.tokens,
            self.store.refusals,
            hint=lambda: ServerHint(tls.current.pin, self.whereabouts.addresses),
            random_bytes=secrets.token_bytes,
            now=self.now,
        )
        parts = AdminParts(
            tokens=tokens,
            bundles=BundleDesk(tokens, self.shelf, self._surroundings(), now=self.now),
            carried=CarriedDesk(
                self.enrolment,
                tokens,
                self.store.carried,
                self.store.refusals,
                meeting=self._meeting,
                installation_id=self.installation.id,
                now=self.now,
            ),
            audit=AuditDesk(
                self.store.audit,
                Recorder(self.store.writer).record,
                self.audit_place().signer,
                public_pem=self.keys.audit.public_pem,
                now_ms=self._now_ms,
            ),
            agents=agents,
            clones=CloneDesk(self.store.clones, self.store.successions, agents, hint=hint),
            samples=SampleDesk(self.store.samples, keeping=keeping_of(self.settings), now=self.now),
            health=HealthDesk(self.store.health),
            checks=CheckDesk(
                self.store.checks,
                agents,
                seal=self.keys.text_seal,
                hint=hint,
                new_id=lambda: secrets.token_hex(_CHECK_ID_BYTES),
            ),
            work=WorkDesk(
                agents,
                self.store.queries,
                self.store.tasks,
                self.store.inventory,
                hint=hint,
                new_id=lambda: secrets.token_hex(_WORK_ID_BYTES),
            ),
            install_offer=lambda token: install_offer(
                self.whereabouts.install_source(), self.shelf.everything(), token
            ),
            authority=self.authority_desk(hint=hint),
            hurries=self.store.hurries,
            hint=hint,
            server_ca=ServerCaDesk(self.store.anchors, tls, self.server_cas, hint=hint, now=self.now),
            now=self.now,
            token_warnings=lambda: (_PIN_IS_LEAF,) if tls.current.pin_is_leaf else (),
        )
        return build_admin_app(parts)

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
            self.store.audit, self.audit_place(), now_ms=self._now_ms, watcher=watcher, announce=announcer
        )

    def _now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def _meeting(self) -> Meeting:
        tls = self.keys.tls.current
        return Meeting(self.whereabouts.addresses, tls.published_pem, tls.pin)

    def _surroundings(self) -> Surroundings:
        """Return what install bundles say of this server."""
        data_dir = self.settings.data_dir

        def web_certificate_pem() -> str:
            certificate = self.whereabouts.proxy_certificate()
            return certificate.pem if certificate else ""

        return Surroundings(
            addresses=lambda: self.whereabouts.addresses,
            ca_pem=lambda: self.keys.tls.current.published_pem,
            web_certificate_pem=web_certificate_pem,
            release_key_pem=lambda: release_key_text(data_dir),
            signing_key=lambda: load_signing_key(data_dir, None),
        )


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

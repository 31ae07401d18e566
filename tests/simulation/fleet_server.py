"""The simulated installation: what outlives a process of the server, and one process after the other.

The process is composed as ``ct_ops_server.core`` and ``.app`` do it, from the same parts, over stores in memory. Keys
are real, and so are their files; the first ones are made once for all histories, because they are the expensive part.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from prometheus_client import CollectorRegistry

from ct_ops_proto.enrolment_token import ServerHint
from ct_ops_server.audit.entries import Link
from ct_ops_server.authority import files
from ct_ops_server.authority.agent_token import TokenSigner
from ct_ops_server.authority.brought import brought_authority
from ct_ops_server.authority.ca import load_or_create_authority
from ct_ops_server.authority.jwks import load_or_create_signing_key
from ct_ops_server.authority.leaf_identity import LeafIdentity, LeafOfAgent, identify
from ct_ops_server.authority.rotation import AuthorityDesk
from ct_ops_server.authority.sealing import SealingSecret, load_or_create_secret
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_ca_lineage import Lineage
from ct_ops_server.authority.server_certificate import ServerTls, load_or_create_tls
from ct_ops_server.authority.trust import LiveTrust, Trust
from ct_ops_server.authority.trust_watch import TrustWatch
from ct_ops_server.authority.web_certificate import WebCertificateFile
from ct_ops_server.background import pushed_leaf
from ct_ops_server.config.pem import PemSource
from ct_ops_server.edge.budget import Budget
from ct_ops_server.edge.callers import Caller, Callers
from ct_ops_server.edge.certificates import CertificateFollower
from ct_ops_server.edge.deregistration import DeregistrationRpc
from ct_ops_server.edge.heartbeats import HeartbeatRpc
from ct_ops_server.edge.held_refusals import HeldRefusals
from ct_ops_server.edge.limits import Limits
from ct_ops_server.edge.metrics import EdgeMetrics
from ct_ops_server.edge.refusals import STOPPING
from ct_ops_server.edge.registration import RegistrationRpcs
from ct_ops_server.edge.registration_limits import RegistrationLimits
from ct_ops_server.edge.rpc import RpcGround, ServiceParts
from ct_ops_server.enrolment.carried import CarriedDesk, Meeting
from ct_ops_server.enrolment.challenges import Challenges
from ct_ops_server.enrolment.departure import Departures
from ct_ops_server.enrolment.refusal_log import RefusalLog
from ct_ops_server.enrolment.service import Enrolment
from ct_ops_server.enrolment.tokens import TokenDesk
from ct_ops_server.fleet import endings
from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.anchor_log import AnchorLog
from ct_ops_server.fleet.clones import CloneDesk
from ct_ops_server.fleet.dispatch import Dispatch
from ct_ops_server.fleet.endings import EndingWatch
from ct_ops_server.fleet.hurry import LOOK_EVERY, STEP_TOPIC, HurryRun
from ct_ops_server.fleet.presence import Presence, PresencePolicy
from ct_ops_server.fleet.server_ca_desk import ServerCaDesk
from ct_ops_server.fleet.sessions import Sessions
from ct_ops_server.fleet.shared_server_cas import SharedServerCas
from ct_ops_server.fleet.work import NewLeaf
from ct_ops_server.keyring import Keyring
from fakes.memory_anchors import MemoryAnchors, Reports
from fakes.memory_deliveries import MemoryState
from fakes.memory_hurry import HurryRows
from fakes.memory_replay import replay
from fakes.memory_server_cas import MemoryServerCas
from fakes.memory_store import MemoryStore, StoreState
from fakes.memory_trust import MemoryTrust, TrustRows
from real_server import settings_for
from simulation.fleet_audit import Chain
from simulation.fleet_bus import SimulatedBus
from simulation.fleet_ledger import Ledger, WatchedDeliveries, WatchedHurry, WatchedStore
from simulation.fleet_network import Connection, Network, certificates_of, leads_to_root

START = datetime(2030, 1, 2, tzinfo=UTC)
ADDRESS = "ops.example.com:9443"
INSTALLATION = "installation"
_NAMES = ("ops.example.com",)
_SILENCE_S = 400 * 86_400.0
"""Of agents that do not say how often they speak; here they speak every few days."""
_SIGNING_FILE = "jwt_key.pem"


@dataclass(frozen=True)
class Keys:
    """What every history begins with."""

    folder: Path
    secret: SealingSecret


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ct-ops-simulated-keys-")


@cache
def keys_of_all() -> Keys:
    """Return the keys, made at the first call of a process."""
    folder = Path(_folder().name) / "server"
    files.open_private_directory(folder)
    secret = load_or_create_secret(folder.parent / "secret")
    load_or_create_authority(folder, secret, now=START)
    file = folder / _SIGNING_FILE
    load_or_create_signing_key(configured=file, existing=file, data_dir=folder, secret=secret)
    load_or_create_tls(folder, secret, names=_NAMES, now=START)
    return Keys(folder, secret)


@dataclass(frozen=True)
class Backup:
    """What a backup holds."""

    at: datetime
    store: StoreState
    deliveries: MemoryState
    trust: TrustRows
    anchors: Reports
    server_cas: Lineage | None
    hurries: HurryRows
    head: Link
    """How far the audit log was."""
    folder: Path
    """A copy of the data directory: keys and certificates."""


class Installation:
    """Data directory and database of the server."""

    def __init__(self, folder: Path, network: Network, ledger: Ledger, seed: int) -> None:
        self.keys = keys_of_all()
        self.folder = folder / "server"
        shutil.copytree(self.keys.folder, self.folder)
        self.settings = replace(settings_for(self.folder), jwt_key_file=self.folder / _SIGNING_FILE)
        self.network = network
        self.ledger = ledger
        self.dice = random.Random(f"{seed} server")
        self.clock_is_off = timedelta(0)
        self.chain = Chain(folder, INSTALLATION, self.now)
        self.store = WatchedStore(ledger, self.now, self.chain)
        self.deliveries = WatchedDeliveries(ledger, self.store.is_current, now=self.now)
        self.trust = MemoryTrust(self.store, self.now, self.chain.note)
        self.anchors = MemoryAnchors(self.store)
        self.server_cas = MemoryServerCas(self.store, self.now, self.chain.note)
        self.hurries = WatchedHurry(
            ledger, self.store, self.trust, self.anchors, now=self.now, chain=self.chain
        )
        self.backups: list[Backup] = []
        self.restores = 0
        self._processes = 0
        self._agents = 0

    def now(self) -> datetime:
        """Return the server's clock."""
        return START + timedelta(seconds=asyncio.get_running_loop().time()) + self.clock_is_off

    @property
    def store_id(self) -> bytes:
        """Changed by every restore."""
        return f"store {self.restores}".encode().ljust(16, b".")

    def new_agent_id(self) -> str:
        """Return an id that was not there before, not even before a restore."""
        self._agents += 1
        return f"a{self._agents:04d}"

    async def start(self) -> Serving:
        """Start a process."""
        self._processes += 1
        brought = brought_authority(self.settings, self.keys.secret)
        keyring = Keyring(self.settings, self.keys.secret, self.trust, brought=brought, now=self.now)
        serving = Serving(self, f"worker {self._processes}", keyring, await keyring.open())
        await serving.start()
        self.network.serving = serving
        return serving

    def name_authority(self, certificates_pem: str, key_pem: str) -> None:
        """Have the settings name an agent CA, for the next start."""
        sources = [PemSource(None, pem) for pem in (certificates_pem, key_pem)]
        self.settings = replace(self.settings, agent_ca_cert=sources[0], agent_ca_key=sources[1])

    def back_up(self) -> None:
        """Keep a backup."""
        folder = self.folder.with_name(f"backup {len(self.backups)} of {self.now().isoformat()}")
        shutil.copytree(self.folder, folder)
        self.backups.append(
            Backup(
                self.now(),
                self.store.snapshot(),
                self.deliveries.snapshot(),
                self.trust.snapshot(),
                self.anchors.snapshot(),
                self.server_cas.snapshot(),
                self.hurries.snapshot(),
                self.chain.head,
                folder,
            )
        )

    def restore(self, backup: Backup) -> None:
        """Go back; the process is down meanwhile. What the audit files tell was decided since holds again."""
        self.restores += 1
        since = self.chain.go_back(backup.head)
        self.store.restore(backup.store)
        self.store.settle()
        replay(self.store, since.events)
        self.deliveries.restore(backup.deliveries)
        self.trust.restore(backup.trust)
        self.anchors.restore(backup.anchors)
        self.server_cas.restore(backup.server_cas)
        self.hurries.restore(backup.hurries)
        lost = self.folder.with_name("lost")
        self.folder.rename(lost)
        shutil.copytree(backup.folder, self.folder)
        # What the restore says then: agents that believe only a later server CA would not believe this one.
        for file in lost.glob("server-ca*") if since.server_ca_changed else ():
            shutil.copy2(file, self.folder)
        shutil.rmtree(lost)


class Serving:
    """A process of the server."""

    def __init__(
        self, installation: Installation, worker_id: str, keyring: Keyring, trust: LiveTrust
    ) -> None:
        self._installation = installation
        self.trust = trust
        self.worker_id = worker_id
        self._numbers = 0
        self.connections: set[Connection] = set()
        self._taken: set[bytes] = set()
        store, now = installation.store, installation.now
        self.loop_time = asyncio.get_running_loop().time
        self.served_tls = ServedTls(self._load_tls(now()), load=self._load_tls, ca_file=None, is_our_own=True)
        self.bus = SimulatedBus(installation.ledger.keep)
        self.parts = self._parts(store, now)
        self._follow_trust()
        ground = RpcGround(self.parts, message_bytes=self.parts.limits.agent_message_bytes)
        registration = RegistrationRpcs(ground)
        self._unary: dict[str, Callable[..., Any]] = {
            "RegisterChallenge": registration.challenge,
            "Register": registration.register,
            "RenewCertificate": registration.renew,
            "Deregister": DeregistrationRpc(ground).deregister,
        }
        self._heartbeats = HeartbeatRpc(ground)
        self.presence = Presence(
            store, worker_id=worker_id, policy=PresencePolicy(), monotonic_s=self.loop_time
        )
        self.endings = EndingWatch(store, self.parts.callers, observe=lambda _age: None)
        self._serve_bus()
        self.trust_watch = TrustWatch(
            trust, installation.trust, read=keyring.read, worker_id=worker_id, node="node"
        )
        self.authority = AuthorityDesk(
            installation.trust, trust, installation.keys.secret, hint=self.bus.hint, now=now
        )
        self.server_cas = SharedServerCas(
            installation.server_cas,
            installation.keys.secret,
            data_dir=installation.folder,
            alone=lambda _folder: nullcontext(),
            now=now,
        )
        self.server_ca = ServerCaDesk(
            installation.anchors, self.served_tls, self.server_cas, hint=self.bus.hint, now=now
        )
        self.agents = AgentDesk(store, hint=self.bus.hint)
        self.clones = CloneDesk(store, store, self.agents, hint=self.bus.hint)
        self.tokens = TokenDesk(
            store,
            store,
            hint=lambda: ServerHint(self.served_tls.current.pin, (ADDRESS,)),
            random_bytes=installation.dice.randbytes,
            now=now,
        )
        self.carried = CarriedDesk(
            self.parts.enrolment,
            self.tokens,
            store,
            store,
            meeting=self._meeting,
            installation_id=INSTALLATION,
            now=now,
        )
        self.follower = CertificateFollower(
            self.served_tls, self.parts.web_certificate, present=lambda _tls: None, now=now
        )

    def _serve_bus(self) -> None:
        hurry = HurryRun(
            self._installation.hurries, hint=self.bus.hint, observe=lambda _state: None, issue=self._push_leaf
        )
        self.parts.dispatch.serve(self.bus, [hurry])
        self.bus.subscribe(STEP_TOPIC, hurry.tick, every=LOOK_EVERY)
        self.bus.subscribe(endings.TOPIC, self.endings.catch_up, every=endings.CATCH_UP_EVERY)

    async def _push_leaf(self, agent_id: str, public_key_der: bytes) -> NewLeaf:
        return await pushed_leaf(self.parts.enrolment, agent_id, public_key_der)

    def _meeting(self) -> Meeting:
        tls = self.served_tls.current
        return Meeting((ADDRESS,), tls.published_pem, tls.pin)

    def _follow_trust(self) -> None:
        """Sign with what is active; let nobody stay by a leaf of an agent CA that is retired."""
        enrolment, callers = self.parts.enrolment, self.parts.callers

        def end_retired(later: Trust) -> None:
            def is_of_them(caller: Caller) -> bool:
                leaf = caller.identity
                return isinstance(leaf, LeafOfAgent) and leaf.authority_sha256 in later.retired

            callers.end_where(is_of_them, "authority_retired")

        self.trust.after_change(
            lambda later: enrolment.sign_with(later.authority, TokenSigner(later.signing))
        )
        self.trust.after_change(end_retired)
        self.trust.after_change(lambda _later: self._taken.clear())

    def _parts(self, store: MemoryStore, now: Callable[[], datetime]) -> ServiceParts:
        limits = replace(Limits(), silence_unknown_s=_SILENCE_S)
        return ServiceParts(
            enrolment=Enrolment(
                store,
                authority=self.trust.current.authority,
                signer=TokenSigner(self.trust.current.signing),
                installation_id=INSTALLATION,
                now=now,
                new_agent_id=self._installation.new_agent_id,
            ),
            challenges=Challenges(random_bytes=self._installation.dice.randbytes, monotonic_s=self.loop_time),
            departures=Departures(store, store, hint=self.bus.hint),
            served_tls=self.served_tls,
            anchor_log=AnchorLog(self._installation.anchors),
            web_certificate=WebCertificateFile(None),
            sessions=Sessions(
                store,
                verifier=self.trust.verifier,
                worker_id=self.worker_id,
                now=now,
            ),
            deliveries=self._installation.deliveries,
            dispatch=Dispatch(hint=self.bus.hint, monotonic_s=self.loop_time),
            inventory=None,  # type: ignore[arg-type]  # no scan is uploaded here
            uploads=Budget(0),
            callers=Callers(end_grace_s=limits.end_grace_s),
            held=HeldRefusals(
                first_s=limits.held_refusal_s,
                longest_s=limits.held_refusal_max_s,
                at_once=limits.held_refusals,
                now_s=self.loop_time,
            ),
            registration_limits=RegistrationLimits(limits, now_s=self.loop_time),
            refusal_log=RefusalLog(store),
            limits=limits,
            metrics=_metrics(),
            store_id=self._installation.store_id,
            now=now,
        )

    def _load_tls(self, now: datetime) -> ServerTls:
        return load_or_create_tls(
            self._installation.folder, self._installation.keys.secret, names=_NAMES, now=now
        )

    async def start(self) -> None:
        """Begin to serve."""
        await self.presence.start()
        self.server_cas.follow_as(self.worker_id, "node")
        await self.server_cas.catch_up()
        await self.endings.start()
        await self.trust_watch.catch_up()

    async def look_after(self) -> None:
        """Do what runs beside a server all the time: certificates, rotations, presence, refusals."""
        await self.server_cas.take_due()
        await self.server_cas.catch_up()
        self.follower.look()
        await self.trust_watch.catch_up()
        await self.presence.tick()
        self.bus.hint_all()
        await self.parts.refusal_log.flush()
        await self.parts.anchor_log.flush()

    async def stop(self) -> None:
        """Stop in order: streams hear that the server stops."""
        self.parts.callers.drain(STOPPING, reconnect_within_s=30.0)
        await asyncio.sleep(1)
        self.crash()
        await self.presence.stop()

    def crash(self) -> None:
        """End at once; nobody is told."""
        self._installation.network.serving = None
        self.bus.end()
        for connection in list(self.connections):
            connection.end()

    def unary(self, method: str) -> Callable[..., Any]:
        """Return the handler of a call."""
        return self._unary[method]

    async def heartbeat(self, context: Any) -> None:
        """Serve a stream."""
        await self._heartbeats.serve(None, context)

    def identify(self, leaf_der: bytes | None) -> LeafIdentity:
        """Decide what a leaf makes of its bearer."""
        now = self._installation.now()
        authorities = self.trust.current.authorities
        return identify(leaf_der, authorities=authorities, installation_id=INSTALLATION, now=now)

    def completes_handshake(self, leaf_der: bytes) -> bool:
        """Tell whether OpenSSL would let this leaf through: by any way to a root that is known, whatever the dates."""
        if leaf_der in self._taken:
            return True
        store = certificates_of("".join(self.trust.current.authorities_pem))
        is_taken = leads_to_root(x509.load_der_x509_certificate(leaf_der), store)
        self._taken |= {leaf_der} if is_taken else set()
        return is_taken

    def next_peer(self) -> str:
        """Return the name of another connection."""
        self._numbers += 1
        return f"{self.worker_id} {self._numbers}"


@cache
def _metrics() -> EdgeMetrics:
    return EdgeMetrics(CollectorRegistry())

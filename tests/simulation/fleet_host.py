"""A simulated host, and the agent on it: the real one, with its files, on a clock and a network of this world.

The agent is composed as ``ct_ops_agent.assembly`` does it. Three things are other than there: what the host looks like
(name, machine id, vitals), chance, which is seeded, and patience: waits of more than a few seconds are stretched, so
that an outage of weeks costs a dozen attempts and not a hundred thousand.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_agent.anchors import FEATURE as ANCHORS
from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import ATTEMPTS, DEFINITIONS, DELIVERY, Hello, Route
from ct_ops_agent.conversation_parts import Acknowledgement, HeartbeatParts, Speaker
from ct_ops_agent.delivery.courier import Courier
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.delivery.vault import Vault
from ct_ops_agent.enrolment import Applicant, Enrolment
from ct_ops_agent.errors import (
    AgentError,
    CredentialRejectedError,
    EnrolmentRefusedError,
    UnreachableError,
)
from ct_ops_agent.heartbeat import Heartbeat
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.files import locked_directory
from ct_ops_agent.identity.keystore import KeyPair, load_key_pair, parse_pem
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_agent.lifecycle import Lifecycle
from ct_ops_agent.renewal import FEATURE, HURRY, Renewal
from ct_ops_agent.route import PresentedCertificate, RouteFinder, RouteWishes
from ct_ops_agent.samples import TimedSample
from ct_ops_agent.secret import Secret
from ct_ops_agent.server_pin import ServerPin
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_agent.vitals import Vitals
from ct_ops_agent.work import CheckResult, CheckStatus
from ct_ops_proto.enrolment_token import EnrolmentToken
from simulation.fleet_network import Network, Place

if TYPE_CHECKING:
    from simulation.fleet_world import World

DAY_S = 86_400.0
_SHORT_S = 5.0
_STRETCH = 4320.0
"""Makes a minute three days."""
_LONGEST_S = 3 * DAY_S
_VITALS = Vitals(1.0, 2.0, 3.0, 4, (), ())
_CODEC = ItemCodec()
_VERSION = "1.0.0"


@dataclass(frozen=True)
class Directory:
    """A copy of a data directory."""

    path: Path
    known: frozenset[str]


class Process(Protocol):
    """An agent that runs, whichever it is."""

    def beat(self) -> None:
        """Have a heartbeat sent now."""

    async def stop(self) -> None:
        """End it."""


class Host:
    """A machine. Its agent's process comes and goes; its data directory stays, as a rule."""

    def __init__(self, world: World, name: str, number: int, *, interval: timedelta) -> None:
        self.world = world
        self.name = name
        self.hostname = name
        self.machine_id = hashlib.sha256(name.encode()).hexdigest()
        self.folder = world.folder / name
        self.dice = random.Random(f"{world.seed} {name}")
        self.clock_is_off_s = 0.0
        self.interval = interval
        self.place = Place(name, f"192.0.2.{number % 250 + 1}", self.wall, random.Random(f"{name} net"))
        self.token: EnrolmentToken | None = None
        self.process: Process | None = None
        self.known: set[str] = set()
        """What this data directory was given to bring home."""
        self.ended: str | None = None
        """Why nobody expects it any more."""
        self.is_windows = False
        self.complaint = ""
        """What the agent says is wrong; empty: nothing."""
        self.restarts = 0
        self._stopping = asyncio.Lock()

    def wall(self) -> float:
        """Return this host's clock."""
        return self.world.wall() + self.clock_is_off_s

    @property
    def boot_id(self) -> str:
        """Return what the kernel of its latest start calls it: a copy has another one."""
        return f"{self.name} boot {self.restarts}"

    def key_id(self) -> str | None:
        """Return the key of its data directory."""
        keys = load_key_pair(self.folder) if self.folder.exists() else None
        return keys.key_id if keys else None

    def leaf_der(self) -> bytes | None:
        """Return the leaf in its data directory, None when there is none for its key."""
        stored = CredentialStore(self.folder).load(load_key_pair(self.folder))
        if stored.identity is None:
            return None
        return next(der for label, der in parse_pem(stored.identity.leaf_pem) if label == "CERTIFICATE")

    def believes(self, authority_der: bytes) -> bool:
        """Tell whether a server CA is among those that its data directory believes; True without a key."""
        keys = load_key_pair(self.folder) if self.folder.exists() else None
        route = CredentialStore(self.folder).load(keys).route if keys else None
        return keys is None or (
            route is not None and ("CERTIFICATE", authority_der) in parse_pem(route.trust_bundle_pem)
        )

    def start(self) -> None:
        """Start the agent. Without a token and without a key there is nothing to start it for."""
        if self.process is not None or (self.token is None and self.key_id() is None):
            return
        self.restarts += 1
        self.process = Agent(self)

    async def stop(self, *, crash: bool = False) -> None:
        """End the agent, politely or not."""
        async with self._stopping:
            if self.process is not None:
                if crash:
                    self.place.cut()
                await self.process.stop()
                self.process = None

    async def restart(self, *, crash: bool = False) -> None:
        """End the agent and start it again."""
        await self.stop(crash=crash)
        self.start()

    async def wipe(self) -> None:
        """Reinstall the host: nothing of the agent is left."""
        await self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.known = set()

    def copy(self, to: Path) -> Directory:
        """Copy the data directory."""
        shutil.rmtree(to, ignore_errors=True)
        if self.folder.exists():
            shutil.copytree(self.folder, to)
        else:
            to.mkdir(mode=0o700)
        return Directory(to, frozenset(self.known))

    async def go_back(self, directory: Directory) -> None:
        """Restore a data directory."""
        await self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(directory.path, self.folder)
        self.known = set(directory.known)
        self.start()


class Agent:
    """A process of the agent."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._due = asyncio.Event()
        self._stack = ExitStack()
        self._stack.enter_context(locked_directory(host.folder))
        self._clock = Clock(wall=host.wall, monotonic=host.world.now_s, sleep=patient_sleep)
        self.courier = build_courier(host, self._clock)
        self._stack.callback(self.courier.close)
        self.lifecycle = build_lifecycle(host, self._clock, self._due, self.courier)
        self._tasks = [
            asyncio.create_task(self._live(), name=f"agent of {host.name}"),
            asyncio.create_task(self._measure(), name=f"collector of {host.name}"),
        ]

    async def stop(self) -> None:
        """End it; what waits in the outbox is on the disk."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.courier.finish()
        self._stack.close()

    async def _live(self) -> None:
        try:
            await self.lifecycle.run()
        except Exception as error:  # noqa: BLE001 - an agent never ends by itself
            self._host.world.ledger.violated(f"the agent of {self._host.name} ended: {error!r}")

    async def _measure(self) -> None:
        host, interval_s = self._host, self._host.interval.total_seconds()
        while True:
            await asyncio.sleep(interval_s * (0.9 + 0.2 * host.dice.random()))
            await self.put()
            self._due.set()

    def beat(self) -> None:
        """Have a heartbeat sent now."""
        self._due.set()

    async def put(self) -> None:
        """Give the agent something to bring home."""
        host, at_ms = self._host, int(self._host.wall() * 1000)
        thing = host.world.new_thing(at_ms, host.dice)
        host.known.add(thing)
        if thing.startswith("check"):
            await self.courier.put(CheckResult(thing, CheckStatus.PASS, "fine", 1, at_ms))
        else:
            await self.courier.put_samples([TimedSample(thing, at_ms, 1.0, "s")])


def facts_of(host: Host) -> HostFacts:
    """Return what a host says it is."""
    os, os_version = ("windows", "2019") if host.is_windows else ("linux", "Debian")
    return HostFacts(host.hostname, os, "amd64", os_version, host.boot_id, host.machine_id)


async def patient_sleep(seconds: float) -> None:
    """Wait, and where it is long, longer."""
    await asyncio.sleep(seconds if seconds <= _SHORT_S else min(seconds * _STRETCH, _LONGEST_S))


def build_courier(host: Host, clock: Clock) -> Courier:
    """Build what brings results home."""
    limits = Limits(16 * 1024 * 1024, int(host.world.outbox_days * DAY_S * 1000))
    vault = Vault(
        host.folder, codec=_CODEC, limits=limits, clock=clock, new_id=lambda: host.dice.randbytes(16)
    )
    return Courier(vault, _CODEC, clock, host.dice.random)


def build_lifecycle(host: Host, clock: Clock, due: asyncio.Event, courier: Courier) -> Lifecycle:
    """Build the agent's life, as ``assembly.built_agent`` does."""
    folder, network = host.folder, host.world.network
    store = CredentialStore(folder)
    stored = store.load(load_key_pair(folder))
    known = store.complete(stored.identity) if stored.identity else None
    facts = facts_of(host)
    connect = network.connector(host.place)
    rotation = KeyRotation(folder)
    hint = host.token.hint if host.token and known is None else None
    finder = RouteFinder(
        RouteWishes(None, "", tls_skip_verify=False, hint=hint), lambda: _FirstContact(network, host.place)
    )
    applicant = Applicant(Secret(host.token.secret if host.token else ""), _VERSION, facts, ())
    hello = Hello(
        boot_id=facts.boot_id,
        process_id=host.dice.randbytes(8).hex(),
        interval_s=int(host.interval.total_seconds()),
        features=(FEATURE, DELIVERY, DEFINITIONS, ATTEMPTS, ANCHORS, HURRY),
        machine_id=facts.machine_id,
        hostname=facts.hostname,
    )

    async def prove(route: Route) -> None:
        async with connect(route, None) as session:
            await session.server_certificate()

    parts = HeartbeatParts(
        vitals=_Vitals(),
        speaker=Speaker(_VERSION, facts, hello),
        renewal=Renewal(store=store, rotation=rotation, wall=clock.wall, jitter=host.dice.random()),
        pin=ServerPin(folder),
        due=due,
        clock=clock,
        delivery=courier,
        prove=prove,
    )
    return Lifecycle(
        identity=None if rotation.is_under_way else known,
        find_route=lambda: finder.find(stored.route),
        enrolment=lambda: Enrolment(
            directory=folder, store=store, connect=connect, applicant=applicant, wall=clock.wall
        ),
        heartbeat=Heartbeat(connect, parts),
        store=store,
        clock=clock,
        random=host.dice.random,
        key_is_doubtful=lambda: rotation.is_under_way,
        watcher=_Watcher(host),
    )


class _Vitals:
    async def read(self) -> Vitals:
        return _VITALS


class _FirstContact:
    """Fetches the authority, as it is handed to everybody."""

    def __init__(self, network: Network, place: Place) -> None:
        self._network, self._place = network, place

    async def fetch_unverified_ca(self, address: str) -> str:
        serving = self._network.serving
        if serving is None or self._place.is_cut_off:
            raise UnreachableError(f"cannot reach {address}")
        return serving.served_tls.current.published_pem

    async def fetch_presented_certificate(self, address: str) -> PresentedCertificate:
        raise UnreachableError(address)


class _Watcher:
    """Keeps what the agent complains about."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def enrolling(self, route: Route) -> None:
        """Nothing is wrong with that."""

    def connecting(self, route: Route, identity: Identity) -> None:
        """Nothing is wrong with that."""

    def acknowledged(self, _route: Route, _identity: Identity, _news: Acknowledgement) -> None:
        self._host.complaint = ""

    def failed(self, failure: AgentError, _delay_s: float) -> None:
        self._host.complaint = complaint_of(failure)


def complaint_of(failure: AgentError) -> str:
    """Return the reason in a word, as the wire has it where it has one."""
    if isinstance(failure, EnrolmentRefusedError | CredentialRejectedError):
        return failure.refusal.reason or failure.refusal.status
    if "not signed by an authority" in str(failure):
        return "untrusted_server"
    return type(failure).__name__


def seeded_keys(dice: random.Random) -> Callable[[], KeyPair]:
    """Return what makes key pairs that are the same in every run of a history."""

    def make() -> KeyPair:
        seed = dice.randbytes(32)
        return KeyPair(seed, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())

    return make

"""The composition root: builds every part of the agent. Nobody else calls constructors across parts.

`built_agent` owns the data directory for as long as its block lasts, reads what is known there, and builds what
lives in it; each part has a helper of its own below. `daemon` runs what is built here.

What only enrolment needs (cryptography, httpx) is imported when it is needed: an enrolled daemon stays small.
"""

import asyncio
import os
import random
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ct_ops_agent import __version__
from ct_ops_agent.anchors import FEATURE as ANCHORS
from ct_ops_agent.clock import SYSTEM_CLOCK, Clock
from ct_ops_agent.config.load import require_enrolment_token
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.control_plane import ATTEMPTS, DEFINITIONS, DELIVERY, Hello, Route
from ct_ops_agent.conversation_parts import HeartbeatParts, Speaker
from ct_ops_agent.delivery.courier import Courier
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.delivery.vault import Vault
from ct_ops_agent.disks import DiskReader
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.gathering.gatherer import Gatherer
from ct_ops_agent.heartbeat import Heartbeat
from ct_ops_agent.host import HostFacts, read_host_facts
from ct_ops_agent.identity.carried_request import left_reply
from ct_ops_agent.identity.credentials import CredentialStore, Identity
from ct_ops_agent.identity.files import locked_directory
from ct_ops_agent.identity.keystore import load_key_pair
from ct_ops_agent.identity.rotation import KeyRotation
from ct_ops_agent.lifecycle import Enrols, Lifecycle
from ct_ops_agent.link import NothingToDeliver, WorkUndone
from ct_ops_agent.renewal import FEATURE, HURRY, Renewal
from ct_ops_agent.route import FirstContact, RouteFinder, RouteWishes, digest_of_beginning
from ct_ops_agent.secret import Secret
from ct_ops_agent.server_pin import ServerPin
from ct_ops_agent.service.layout import AUTHORITY
from ct_ops_agent.status.board import StatusBoard
from ct_ops_agent.status.delivery import facts_of_delivery
from ct_ops_agent.status.place import choose_file, folders
from ct_ops_agent.status.report import Report, State
from ct_ops_agent.transport.control_plane import GrpcConnector
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_agent.vitals import CpuGauge, VitalsReader
from ct_ops_agent.watching import Everybody, Watches
from ct_ops_agent.work import Works
from ct_ops_agent.workshop import Workshop, build_workshop


@dataclass(frozen=True)
class BuiltAgent:
    """The parts that the daemon runs."""

    lifecycle: Lifecycle
    gatherer: Gatherer
    courier: Courier | None
    """``None``: this is a single run, which leaves the outbox alone."""

    workshop: Workshop | None
    """``None``: a single run does no work."""


@contextmanager
def built_lifecycle(
    config: AgentConfig, due: asyncio.Event, clock: Clock = SYSTEM_CLOCK, *, watched: bool = True
) -> Iterator[Lifecycle]:
    """Own the data directory and build the agent that lives in it, for those who need its life only."""
    with built_agent(config, due, clock, watched=watched) as agent:
        yield agent.lifecycle


@contextmanager
def built_agent(
    config: AgentConfig,
    due: asyncio.Event,
    clock: Clock = SYSTEM_CLOCK,
    *,
    watched: bool = True,
    watchers: tuple[Watches, ...] = (),
) -> Iterator[BuiltAgent]:
    """Own the data directory and build the agent in it; `watched`: with an outbox and a status file."""
    with ExitStack() as stack:
        stack.enter_context(locked_directory(config.data_dir))
        courier = build_courier(config, clock) if watched else None
        if courier:
            stack.callback(courier.close)
        gatherer = build_gatherer(config, clock, courier)
        chance = random.SystemRandom().random
        workshop = build_workshop(config.data_dir, courier, clock, chance) if courier else None
        store = CredentialStore(config.data_dir)
        keys = load_key_pair(config.data_dir)
        stored = store.load(keys)
        known = store.complete(stored.identity) if stored.identity else None
        if not stored.agent_id and keys is None:
            require_enrolment_token(config)  # a key that was admitted once is invitation enough
        facts = read_host_facts(hostname=config.hostname)
        connect = GrpcConnector(clock.wall)
        rotation = KeyRotation(config.data_dir)
        finder = RouteFinder(read_wishes(config, enrolled=known is not None), build_first_contact)
        boards = [build_board(config, facts, clock, courier, gatherer)] if courier else []
        lifecycle = Lifecycle(
            # Whoever holds a next key has to find out first which of the two the server knows.
            identity=None if rotation.is_under_way else known,
            find_route=lambda: finder.find(
                store.load(None).route
            ),  # as it is then: a reply may be carried here
            enrolment=lambda: build_enrolment(config, facts, store, connect, clock),
            heartbeat=build_heartbeat(
                config,
                facts,
                store=store,
                connect=connect,
                due=due,
                clock=clock,
                courier=courier,
                gatherer=gatherer,
                works=workshop,
            ),
            store=store,
            clock=clock,
            random=chance,
            key_is_doubtful=lambda: rotation.is_under_way,
            watcher=Everybody(*watchers, *boards),
            advice=advise(config),
            carried=lambda: take_carried(config, store, clock),
        )
        yield BuiltAgent(lifecycle, gatherer, courier, workshop)


def build_heartbeat(
    config: AgentConfig,
    facts: HostFacts,
    *,
    store: CredentialStore,
    connect: GrpcConnector,
    due: asyncio.Event,
    clock: Clock,
    courier: Courier | None,
    gatherer: Gatherer,
    works: Works | None,
) -> Heartbeat:
    """Build the heartbeat of this process."""
    hello = Hello(
        boot_id=facts.boot_id,
        process_id=secrets.token_hex(8),
        interval_s=int(config.heartbeat_interval.total_seconds()),
        features=(FEATURE, DELIVERY, DEFINITIONS, ATTEMPTS, ANCHORS, HURRY),
        machine_id=facts.machine_id,
        hostname=facts.hostname,
    )
    renewal = Renewal(
        store=store,
        rotation=KeyRotation(config.data_dir),
        wall=clock.wall,
        jitter=random.SystemRandom().random(),
    )
    parts = HeartbeatParts(
        vitals=VitalsReader(CpuGauge(), DiskReader()),
        speaker=Speaker(__version__, facts, hello),
        renewal=renewal,
        pin=ServerPin(config.data_dir),
        due=due,
        clock=clock,
        delivery=courier or NothingToDeliver(),
        collectors=gatherer if courier else None,
        works=works or WorkUndone(),
        prove=look_at_any,
    )
    return Heartbeat(connect, parts)


async def look_at_any(route: Route) -> None:
    """Look whether the server can be believed on a route.

    Raises:
        UnreachableError: no address answers with a certificate that the route's roots vouch for.
    """
    from ct_ops_agent.transport.verified_look import look_at_server  # noqa: PLC0415 - rarely needed

    failure = UnreachableError("no address is configured")
    for address in route.addresses:
        try:
            await look_at_server(route, address)
        except UnreachableError as error:
            failure = error
        else:
            return
    raise failure


def build_courier(config: AgentConfig, clock: Clock) -> Courier:
    """Build what brings results home, and open the outbox."""
    codec = ItemCodec()
    vault = Vault(
        config.data_dir,
        codec=codec,
        limits=Limits(config.outbox_max_bytes, int(config.outbox_max_age.total_seconds() * 1000)),
        clock=clock,
        new_id=lambda: secrets.token_bytes(16),
    )
    return Courier(vault, codec, clock, random.SystemRandom().random)


def build_gatherer(config: AgentConfig, clock: Clock, courier: Courier | None) -> Gatherer:
    """Build what runs the collectors; without an outbox there is nowhere for samples to go."""
    return Gatherer(
        config.collectors.plans if courier else (),
        sink=courier or NothingToDeliver(),
        clock=clock,
        random=random.SystemRandom().random,
        outbox_bytes=lambda: courier.report.figures.used_bytes if courier else 0,
    )


def build_enrolment(
    config: AgentConfig, facts: HostFacts, store: CredentialStore, connect: GrpcConnector, clock: Clock
) -> Enrols:
    """Build what gets this host admitted."""
    from ct_ops_agent.enrolment import Applicant, Enrolment  # noqa: PLC0415 - loads cryptography, for enrolment only

    token = config.enrolment_token
    applicant = Applicant(Secret(token.secret if token else ""), __version__, facts, config.tags)
    return Enrolment(
        directory=config.data_dir, store=store, connect=connect, applicant=applicant, wall=clock.wall
    )


def take_carried(config: AgentConfig, store: CredentialStore, clock: Clock) -> Identity | None:
    """Install the reply that a command left for this agent, if there is one."""
    text = left_reply(config.data_dir)
    if text is None:
        return None
    from ct_ops_agent.carried import install_left  # noqa: PLC0415 - loads cryptography, and is rarely there

    beginning = beginning_of(config)
    return install_left(config.data_dir, store, text, now_unix=clock.wall(), began_with=beginning)


def beginning_of(config: AgentConfig) -> str:
    """Return how the authority that the installer brought is remembered beside what is learnt; empty: it brought none."""
    wishes = read_wishes(config, enrolled=True)
    return digest_of_beginning(wishes.ca_pem) if wishes.ca_is_installed else ""


def build_board(
    config: AgentConfig, facts: HostFacts, clock: Clock, courier: Courier, gatherer: Gatherer
) -> StatusBoard:
    """Build what keeps the status file true."""
    path = choose_file(config.data_dir, folders(config.data_dir, os.environ))
    now = clock.wall()
    report = Report(
        pid=os.getpid(),
        version=__version__,
        data_dir=str(config.data_dir),
        state=State.STARTING,
        since=now,
        written_at=now,
        hostname=facts.hostname,
        heartbeat_interval_s=config.heartbeat_interval.total_seconds(),
    )
    return StatusBoard(
        path,
        report,
        clock.wall,
        look=lambda: facts_of_delivery(courier.report, config.outbox_max_bytes, gatherer.states()),
    )


def advise(config: AgentConfig) -> str:
    """Return what is better done once this host is enrolled, empty when there is nothing."""
    if config.token_file is None:
        return ""
    return (
        f"the enrolment token in {config.token_file} is not needed any more; "
        "remove it with: ct-ops-agent enrolment forget-token"
    )


def build_first_contact() -> FirstContact:
    """Build what fetches certificates before anything is believed."""
    from ct_ops_agent.transport.first_contact import UnverifiedFirstContact  # noqa: PLC0415 - loads httpx, for first contact only

    return UnverifiedFirstContact()


def read_wishes(config: AgentConfig, *, enrolled: bool) -> RouteWishes:
    """Return what the configuration says about the server. A token's hint is for the way in only."""
    token = None if enrolled else config.enrolment_token
    return RouteWishes(
        address=config.address,
        ca_pem=config.ca_cert_file.read_text(encoding="utf-8") if config.ca_cert_file else "",
        tls_skip_verify=config.tls_skip_verify,
        hint=token.hint if token else None,
        ca_is_installed=config.ca_cert_file == AUTHORITY,
    )

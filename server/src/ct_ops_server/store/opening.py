"""An open store: its database migrated, its writer running, its parts put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ct_ops_server.fleet.items import Item
from ct_ops_server.store.admissions import PENDING_OF_A_TOKEN
from ct_ops_server.store.agents import SqlAgentStore
from ct_ops_server.store.anchors import SqlAnchorStore
from ct_ops_server.store.audit_reading import SqlAuditStore
from ct_ops_server.store.carried import SqlCarriedStore
from ct_ops_server.store.checks import SqlCheckStore
from ct_ops_server.store.clones import SqlCloneStore
from ct_ops_server.store.database import Database
from ct_ops_server.store.deliveries import SqlDeliveryStore
from ct_ops_server.store.endings import SqlEndingStore
from ct_ops_server.store.enrolment import SqlEnrolmentStore
from ct_ops_server.store.grouping import WriterLimits
from ct_ops_server.store.health import SqlHealthStore
from ct_ops_server.store.hurry import SqlHurryStore
from ct_ops_server.store.installation import InstallationStore
from ct_ops_server.store.inventory import SqlInventoryStore
from ct_ops_server.store.item_writers import item_writers
from ct_ops_server.store.items import ItemWriter
from ct_ops_server.store.presence import SqlPresenceStore
from ct_ops_server.store.queries import SqlQueryStore
from ct_ops_server.store.refusals import SqlRefusalStore
from ct_ops_server.store.sample_reading import SqlSampleStore
from ct_ops_server.store.samples import SERIES_OF_AN_AGENT
from ct_ops_server.store.server_cas import SqlServerCaStore
from ct_ops_server.store.streams import SqlStreamStore
from ct_ops_server.store.successions import SqlSuccessionStore
from ct_ops_server.store.tasks import SqlTaskStore
from ct_ops_server.store.tokens import SqlTokenStore
from ct_ops_server.store.trust import SqlTrustStore
from ct_ops_server.store.writer import GroupWriter, WriterObserver


@dataclass(frozen=True, slots=True)
class Store:
    """Everything the server asks of its store."""

    database: Database
    writer: GroupWriter
    installation: InstallationStore
    trust: SqlTrustStore
    enrolment: SqlEnrolmentStore
    tokens: SqlTokenStore
    refusals: SqlRefusalStore
    carried: SqlCarriedStore
    agents: SqlAgentStore
    clones: SqlCloneStore
    anchors: SqlAnchorStore
    server_cas: SqlServerCaStore
    successions: SqlSuccessionStore
    hurries: SqlHurryStore
    streams: SqlStreamStore
    deliveries: SqlDeliveryStore
    samples: SqlSampleStore
    health: SqlHealthStore
    presence: SqlPresenceStore
    endings: SqlEndingStore
    checks: SqlCheckStore
    queries: SqlQueryStore
    tasks: SqlTaskStore
    audit: SqlAuditStore
    inventory: SqlInventoryStore


@asynccontextmanager
async def open_store(
    url: str,
    *,
    limits: WriterLimits | None = None,
    observer: WriterObserver | None = None,
    series_of_an_agent: int = SERIES_OF_AN_AGENT,
    pending_of_a_token: int = PENDING_OF_A_TOKEN,
) -> AsyncIterator[Store]:
    """Open the store at ``url``, bring its schema up to date, and close it in order at the end.

    Args:
        url: the database's address, see ``database_url``.
        limits: of the writer; the defaults are measured ones.
        observer: told of every commit and refusal.
        series_of_an_agent: how many series of samples an agent may have.
        pending_of_a_token: how many of its agents may wait for approval.

    Raises:
        DatabaseUrlError: the address cannot be used.
        SchemaNewerError: a newer version of CT-Ops has changed the schema.
        StoreUnavailableError: the database does not answer.
    """
    database = await Database.open(url)
    try:
        await database.upgrade()
        async with GroupWriter(database, limits=limits, observer=observer) as writer:
            writers = item_writers(series_of_an_agent=series_of_an_agent)
            yield _assemble(database, writer, writers, pending_of_a_token)
    finally:
        await database.dispose()


async def migrate(url: str) -> tuple[str | None, str | None]:
    """Bring the schema of the database at ``url`` up to date; return its revision before and after.

    Raises:
        DatabaseUrlError, SchemaNewerError, StoreUnavailableError: as ``open_store``.
    """
    database = await Database.open(url)
    try:
        before = await database.revision()
        await database.upgrade()
        return before, await database.revision()
    finally:
        await database.dispose()


def _assemble(
    database: Database,
    writer: GroupWriter,
    writers: Mapping[type[Item], ItemWriter],
    pending_of_a_token: int,
) -> Store:
    return Store(
        database=database,
        writer=writer,
        installation=InstallationStore(database, writer),
        trust=SqlTrustStore(database, writer),
        enrolment=SqlEnrolmentStore(database, writer, pending_of_a_token=pending_of_a_token),
        tokens=SqlTokenStore(database, writer),
        refusals=SqlRefusalStore(database, writer),
        carried=SqlCarriedStore(database, writer),
        agents=SqlAgentStore(database, writer),
        clones=SqlCloneStore(database),
        anchors=SqlAnchorStore(database, writer),
        server_cas=SqlServerCaStore(database, writer),
        successions=SqlSuccessionStore(writer),
        hurries=SqlHurryStore(database, writer),
        streams=SqlStreamStore(database, writer),
        deliveries=SqlDeliveryStore(database, writer, writers),
        samples=SqlSampleStore(database),
        health=SqlHealthStore(database),
        presence=SqlPresenceStore(database, writer),
        endings=SqlEndingStore(database),
        checks=SqlCheckStore(database, writer),
        queries=SqlQueryStore(database, writer),
        tasks=SqlTaskStore(database, writer),
        audit=SqlAuditStore(database),
        inventory=SqlInventoryStore(database, writer),
    )

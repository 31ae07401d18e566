"""The tables, and the database's clock.

Rules kept here:

* Every time is an integer of milliseconds since the epoch, UTC. Times that two workers compare
  (presence, leases, the end of a token) come from the *database's* clock: ``now_ms()`` (rule 18).
* SQLite's tables are STRICT, so that it refuses what PostgreSQL refuses: without it an integer of
  2^63 becomes a float in silence and only PostgreSQL's tests would find out (rule 15).
* A heartbeat changes columns of ``agents`` that no index covers, and pages keep room for the new
  version of a row: PostgreSQL then updates in place (HOT) and the indexes never see a heartbeat.
* Dependants of an agent go with it (ON DELETE CASCADE): a new table cannot block a deletion.

``migrations`` brings a database here; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

Integer64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Real: TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
Flag = sa.Boolean().with_variant(sa.Integer(), "sqlite")
Bytes = sa.LargeBinary()
Document = sa.Text()
"""JSON as text: written and read whole, never searched, so no database parses it."""


class now_ms(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock: milliseconds since the epoch, at the moment the row is touched."""

    type = Integer64
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _sqlite_now_ms(_element: now_ms, _compiler: SQLCompiler, **_: Any) -> str:
    # unixepoch('subsec') came with SQLite 3.42; julianday is exact to 0.04 ms in this century.
    return "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


@compiles(now_ms, "postgresql")
def _postgres_now_ms(_element: now_ms, _compiler: SQLCompiler, **_: Any) -> str:
    # Not now(): that is the start of the transaction, which a group of writes may share for a while.
    return "CAST(round(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _agent_reference(**options: Any) -> sa.Column[str]:
    target = sa.ForeignKey("agents.id", ondelete="CASCADE")
    return sa.Column("agent_id", sa.Text, target, nullable=False, **options)


def _one_active() -> sa.Index:
    """Let the database itself see to it that at most one row is active."""
    active = sa.text("state = 'active'")
    return sa.Index(None, "state", unique=True, postgresql_where=active, sqlite_where=active)


installation = sa.Table(
    "installation",
    metadata,
    sa.Column("only_row", Integer64, sa.CheckConstraint("only_row = 1", "only_row"), primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("store_id", Bytes, nullable=False),
    sa.Column("created_at", Integer64, nullable=False),
    sqlite_strict=True,
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", Bytes, nullable=False, unique=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("auto_approve", Flag, nullable=False),
    sa.Column("max_uses", Integer64),
    sa.Column("expires_at", Integer64),
    sa.Column("tags", Document, nullable=False),
    sa.Column("uses", Integer64, nullable=False),
    sa.Column("created_at", Integer64, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("revoked_at", Integer64),
    sa.Column("networks", Document, nullable=False, server_default="[]"),
    sa.Column("hostname_pattern", sa.Text, nullable=False, server_default=""),
    sa.Column("revoked_by", sa.Text),
    sa.Column("revoked_reason", sa.Text),
    sqlite_strict=True,
)

agents = sa.Table(
    "agents",
    metadata,
    # Who it is: set at enrolment, changed by operators and by a proven Register.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False, unique=True),
    sa.Column("public_key_der", Bytes, nullable=False),
    sa.Column("hostname", sa.Text, nullable=False, index=True),
    sa.Column("machine_id", sa.Text, index=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created_at", Integer64, nullable=False),
    sa.Column("observed_address", sa.Text, nullable=False),
    sa.Column("claimed_addresses", Document, nullable=False),
    sa.Column("claimed_tags", Document, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    # Presence (rule 18): raised and fenced by generation.
    sa.Column("generation", Integer64, nullable=False),
    sa.Column("online", Flag, nullable=False),
    sa.Column("worker_id", sa.Text),
    sa.Column("interval_ms", Integer64),
    sa.Column("last_seen_at", Integer64),
    # The latest heartbeat; the platform is first known from enrolment.
    sa.Column("agent_version", sa.Text, nullable=False),
    sa.Column("os", sa.Text, nullable=False),
    sa.Column("os_version", sa.Text, nullable=False),
    sa.Column("arch", sa.Text, nullable=False),
    sa.Column("cpu_percent", Real),
    sa.Column("memory_percent", Real),
    sa.Column("disk_percent", Real),
    sa.Column("uptime_s", Integer64),
    sa.Column("reported_at_s", Integer64),
    sa.Column("clock_skew_ms", Integer64),
    sa.Column("token_id", sa.Text, index=True),
    # When its latest stream opened: what it was to deliver before that is not missed yet.
    sa.Column("connected_at", Integer64),
    postgresql_with={"fillfactor": 60},
    sqlite_strict=True,
)

agent_facts = sa.Table(
    "agent_facts",
    metadata,
    _agent_reference(primary_key=True),
    sa.Column("disks", Document, nullable=False),
    sa.Column("interfaces", Document, nullable=False),
    postgresql_with={"fillfactor": 60},
    sqlite_strict=True,
)

agent_tags = sa.Table(
    "agent_tags",
    metadata,
    _agent_reference(primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_strict=True,
)

status_history = sa.Table(
    "status_history",
    metadata,
    sa.Column("id", Integer64, sa.Identity(), primary_key=True),
    _agent_reference(index=True),
    sa.Column("at", Integer64, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_strict=True,
)

leaves = sa.Table(
    "leaves",
    metadata,
    sa.Column("serial", sa.Text, primary_key=True),
    _agent_reference(),
    sa.Column("pem", sa.Text, nullable=False),
    sa.Column("sha256", Bytes, nullable=False, unique=True),
    sa.Column("issued_at", Integer64, nullable=False),
    sa.Column("not_after", Integer64, nullable=False),
    sa.Column("authority_sha256", Bytes, nullable=False),
    sa.Index(None, "agent_id", "issued_at"),
    sqlite_strict=True,
)

authorities = sa.Table(
    "authorities",
    metadata,
    sa.Column("sha256", Bytes, primary_key=True),
    sa.Column("certificate_pem", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("recorded_at", Integer64, nullable=False),
    sa.Column("changed_at", Integer64),
    _one_active(),
    sqlite_strict=True,
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("kid", sa.Text, primary_key=True),
    sa.Column("public_pem", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("recorded_at", Integer64, nullable=False),
    sa.Column("changed_at", Integer64),
    _one_active(),
    sqlite_strict=True,
)

sealed_keys = sa.Table(
    "sealed_keys",
    metadata,
    # Private keys that every node needs, encrypted under a secret that is never here.
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("sealed_pem", sa.Text, nullable=False),
    sa.Column("recorded_at", Integer64, nullable=False),
    sqlite_strict=True,
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("lease_at", Integer64, nullable=False),
    sa.Column("node", sa.Text),
    # The step of the authority's life that this worker acts by; NULL: it has not said so yet.
    sa.Column("trust_version", Integer64),
    # The same of the server CAs; NULL also for a worker of before they were shared.
    sa.Column("server_ca_version", Integer64),
    sqlite_strict=True,
)

refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("id", Integer64, sa.Identity(), primary_key=True),
    # One row for a key and a reason, however often it comes back: existing agents ask every 5 s for ever.
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("token_id", sa.Text),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("observed_address", sa.Text, nullable=False),
    sa.Column("first_at", Integer64, nullable=False),
    sa.Column("last_at", Integer64, nullable=False, index=True),
    sa.Column("count", Integer64, nullable=False),
    sa.UniqueConstraint("key_id", "reason"),
    sqlite_strict=True,
)

tombstones = sa.Table(
    "tombstones",
    metadata,
    # Without a reference to agents: this is what stays of one, so that nothing resurrects it (rule 25).
    sa.Column("agent_id", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False, index=True),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("deleted_at", Integer64, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("history", Document, nullable=False),
    sqlite_strict=True,
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", Integer64, nullable=False),
    sqlite_strict=True,
)

endings = sa.Table(
    "endings",
    metadata,
    # Numbered by a counter whose row stays locked until the commit: the numbers have the order of the
    # commits and no holes, so "everything after number N" can lose nothing.
    sa.Column("number", Integer64, primary_key=True, autoincrement=False),
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", Integer64, nullable=False),
    sqlite_strict=True,
)

"""Revision 0001, enrolment and heartbeat: installation, tokens, agents and what depends on them, workers.

Columns are spelled out here and not taken from ``schema``: that module moves on, this one never.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
_FLAG = sa.Boolean().with_variant(sa.Integer(), "sqlite")
_ACTIVE = sa.text("state = 'active'")


def upgrade() -> None:
    """Create every table; agents before what refers to them."""
    _create_installation()
    _create_tokens()
    _create_agents()
    _create_dependants()
    _create_leaves()
    _create_trust("authorities", sa.Column("sha256", sa.LargeBinary), "certificate_pem")
    _create_trust("signing_keys", sa.Column("kid", sa.Text), "public_pem")
    _create_table("workers", _text("id"), _integer("lease_at"), _primary("workers", "id"))


def _create_installation() -> None:
    _create_table(
        "installation",
        _integer("only_row"),
        _text("id"),
        _bytes("store_id"),
        _integer("created_at"),
        _primary("installation", "only_row"),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_installation_only_row")),
    )


def _create_tokens() -> None:
    _create_table(
        "tokens",
        _text("id"),
        _bytes("digest"),
        _text("label"),
        sa.Column("auto_approve", _FLAG, nullable=False),
        _integer("max_uses", nullable=True),
        _integer("expires_at", nullable=True),
        _text("tags"),
        _integer("uses"),
        _integer("created_at"),
        _text("created_by"),
        _integer("revoked_at", nullable=True),
        _primary("tokens", "id"),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )


def _create_agents() -> None:
    _create_table(
        "agents",
        _text("id"),
        _text("key_id"),
        _bytes("public_key_der"),
        _text("hostname"),
        _text("machine_id", nullable=True),
        _text("status"),
        _integer("created_at"),
        _text("observed_address"),
        _text("claimed_addresses"),
        _text("claimed_tags"),
        _text("evidence"),
        _integer("generation"),
        sa.Column("online", _FLAG, nullable=False),
        _text("worker_id", nullable=True),
        _integer("interval_ms", nullable=True),
        _integer("last_seen_at", nullable=True),
        *(_text(name) for name in ("agent_version", "os", "os_version", "arch")),
        *(sa.Column(name, _REAL) for name in ("cpu_percent", "memory_percent", "disk_percent")),
        _integer("uptime_s", nullable=True),
        _integer("reported_at_s", nullable=True),
        _primary("agents", "id"),
        sa.UniqueConstraint("key_id", name=op.f("uq_agents_key_id")),
        postgresql_with={"fillfactor": 60},
    )
    op.create_index(op.f("ix_agents_hostname"), "agents", ["hostname"])


def _create_dependants() -> None:
    _create_table(
        "agent_facts",
        _agent("agent_facts"),
        _text("disks"),
        _text("interfaces"),
        _primary("agent_facts", "agent_id"),
        postgresql_with={"fillfactor": 60},
    )
    primary = _primary("agent_tags", "agent_id", "key")
    _create_table("agent_tags", _agent("agent_tags"), _text("key"), _text("value"), primary)
    _create_table(
        "status_history",
        sa.Column("id", _INTEGER, sa.Identity(), nullable=False),
        _agent("status_history"),
        _integer("at"),
        *(_text(name) for name in ("status", "actor", "reason")),
        _primary("status_history", "id"),
    )
    op.create_index(op.f("ix_status_history_agent_id"), "status_history", ["agent_id"])


def _create_leaves() -> None:
    _create_table(
        "leaves",
        _text("serial"),
        _agent("leaves"),
        _text("pem"),
        _bytes("sha256"),
        _integer("issued_at"),
        _integer("not_after"),
        _bytes("authority_sha256"),
        _primary("leaves", "serial"),
        sa.UniqueConstraint("sha256", name=op.f("uq_leaves_sha256")),
    )
    op.create_index(op.f("ix_leaves_agent_id_issued_at"), "leaves", ["agent_id", "issued_at"])


def _create_trust(table: str, key: sa.Column[Any], pem: str) -> None:
    """Create a table of keys or certificates of which at most one is active."""
    key.nullable = False
    _create_table(table, key, _text(pem), _text("state"), _integer("recorded_at"), _primary(table, key.name))
    index = op.f(f"ix_{table}_state")
    op.create_index(index, table, ["state"], unique=True, postgresql_where=_ACTIVE, sqlite_where=_ACTIVE)


def _create_table(name: str, *items: sa.schema.SchemaItem, **options: Any) -> None:
    op.create_table(name, *items, sqlite_strict=True, **options)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _integer(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, _INTEGER, nullable=nullable)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _agent(table: str) -> sa.Column[str]:
    name = op.f(f"fk_{table}_agent_id_agents")
    return sa.Column(
        "agent_id", sa.Text, sa.ForeignKey("agents.id", name=name, ondelete="CASCADE"), nullable=False
    )

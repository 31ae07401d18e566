"""The table of the server CAs, from the first step of one on."""

from __future__ import annotations

import sqlalchemy as sa

from ct_ops_server.store.schema import Flag, Integer64, metadata

server_cas = sa.Table(
    "server_cas",
    metadata,
    sa.Column("number", Integer64, primary_key=True, autoincrement=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("certificate_pem", sa.Text, nullable=False),
    sa.Column("cross_pem", sa.Text),
    # Under the installation's secret, which is never here; NULL once it is retired.
    sa.Column("sealed_pem", sa.Text),
    sa.Column("by_time", Flag, nullable=False),
    sa.Column("recorded_at", Integer64, nullable=False),
    sqlite_strict=True,
)

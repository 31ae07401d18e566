"""Every table of ours: ``metadata`` when all modules that define tables have been imported, whoever asks first."""

from __future__ import annotations

from ct_ops_server.store import (  # noqa: F401 - they register their tables
    anchor_tables,
    audit_tables,
    carried_tables,
    check_tables,
    delivery_tables,
    hurry_tables,
    rollup_tables,
    sample_tables,
    server_ca_tables,
    side_tables,
    work_tables,
)
from ct_ops_server.store.schema import metadata

__all__ = ["metadata"]

from __future__ import annotations

from pathlib import Path

import pytest

from unit.server.audit.audit_world import AuditWorld


@pytest.fixture
def world(tmp_path: Path) -> AuditWorld:
    """An empty directory for audit files."""
    return AuditWorld(tmp_path / "audit")

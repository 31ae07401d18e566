from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_server.config.schema import Settings
from real_server import settings_for


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "server")

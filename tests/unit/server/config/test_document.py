"""The page about the configuration is the table, printed."""

from __future__ import annotations

from pathlib import Path

from ct_ops_server.config.document import page
from ct_ops_server.config.variables import DEFERRED, VARIABLES

_PAGE = Path(__file__).parents[4] / "docs" / "server-configuration.md"


def test_the_page_is_not_stale() -> None:
    """Regenerate it with: python -m ct_ops_server.config.document > docs/server-configuration.md."""
    assert page() == _PAGE.read_text()


def test_every_variable_is_on_the_page() -> None:
    """Also those without effect yet."""
    names = [*DEFERRED, *(variable.name for variable in VARIABLES)]

    assert [] == [name for name in names if f"`{name}`" not in page()]

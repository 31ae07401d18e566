"""The tables of variables for operators."""

from __future__ import annotations

from ct_ops_server.config.document import deferred_markdown, variables_markdown
from ct_ops_server.config.variables import DEFERRED, VARIABLES


def test_every_variable_is_a_row() -> None:
    """With its name, and what it is."""
    table = variables_markdown()

    assert [] == [each.name for each in VARIABLES if f"`{each.name}`" not in table or each.doc not in table]


def test_every_variable_without_effect_is_named() -> None:
    """None is left out."""
    assert list(DEFERRED) == [line.split("`")[1] for line in deferred_markdown().splitlines()]

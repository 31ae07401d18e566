"""The operators' page says what the code does."""

from pathlib import Path

from ct_ops_agent.config.document import BEGIN, END, describe_keys
from ct_ops_agent.config.schema import KEYS

PAGE = Path(__file__).parents[4] / "docs" / "agent.md"


def test_the_page_holds_the_table_of_the_code() -> None:
    """Run `python -m ct_ops_agent.config.document` and paste when this fails."""
    text = PAGE.read_text()
    table = text[text.index(BEGIN) : text.index(END) + len(END)]

    assert describe_keys() == table


def test_every_key_is_a_row() -> None:
    """Name, environment, default and meaning of each."""
    table = describe_keys()

    assert all(f"`{key.path}`" in table and f"`{key.environment}`" in table for key in KEYS)
    assert "| `30` |" in table

"""The table of keys for operators."""

from ct_ops_agent.config.document import keys_markdown
from ct_ops_agent.config.schema import KEYS


def test_every_key_is_a_row() -> None:
    """Name, environment, default and meaning of each."""
    table = keys_markdown()

    assert all(f"`{key.path}`" in table and f"`{key.environment}`" in table for key in KEYS)
    assert "| `30` |" in table

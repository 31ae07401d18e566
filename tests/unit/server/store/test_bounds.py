"""No table grows without end, and the documentation says what bounds each."""

from __future__ import annotations

from ct_ops_server.config.variables import VARIABLES
from ct_ops_server.store.all_tables import metadata
from ct_ops_server.store.bounds import BOUNDS


def test_every_table_says_what_bounds_it() -> None:
    """When this fails: what removes the rows of your table? See ``store.forgetting``, then add its line."""
    assert sorted(metadata.tables) == sorted(BOUNDS)


def test_the_variables_that_bound_tables_exist() -> None:
    """A page does not send operators to a variable that has no effect."""
    named = {word.strip("`,;") for text in BOUNDS.values() for word in text.split() if "INGEST_" in word}

    assert named <= {variable.name for variable in VARIABLES}

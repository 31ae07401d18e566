"""Prints the table of variables for ``docs/server-configuration.md`` (`make docs`)."""

from __future__ import annotations

from ct_ops_server.config.variables import DEFERRED, VARIABLES, Variable


def variables_markdown() -> str:
    """Return the table of all variables that have an effect."""
    head = ("| variable | default | accepts | what it is |", "|---|---|---|---|")
    return "\n".join((*head, *map(_row, VARIABLES)))


def deferred_markdown() -> str:
    """Return the list of those that are accepted without effect."""
    return "\n".join(f"* `{name}`{' 🔒' if secret else ''}" for name, secret in DEFERRED.items())


def _row(variable: Variable) -> str:
    name = f"`{variable.name}`{' 🔒' if variable.secret else ''}"
    old = "".join(f" Old name: `{name}`." for name in variable.old_names)
    default = f"`{variable.default}`" if variable.default is not None else variable.without
    cells = (name, default, variable.accepts, variable.doc + old)
    return f"| {' | '.join(cells)} |"

"""Prints the table of keys for ``docs/agent.md`` (`make docs`)."""

from datetime import timedelta

from ct_ops_agent.config.schema import KEYS, Key


def keys_markdown() -> str:
    """Return the table of all keys."""
    head = ("| key | environment | flag | default | meaning |", "|---|---|---|---|---|")
    return "\n".join((*head, *map(_row, KEYS)))


def _row(key: Key) -> str:
    environment = f"`{key.environment}`" + (f" (old: `{key.old_environment}`)" if key.old_environment else "")
    name = f"`{key.path}`" + (f" (old: `{key.old_path}`)" if key.old_path else "")
    cells = (name, environment, f"`{key.flag}`" if key.flag else "", _shown_default(key.default), key.meaning)
    return f"| {' | '.join(cells)} |"


def _shown_default(default: object) -> str:
    match default:
        case None | ():
            return "unset"
        case bool():
            return f"`{str(default).lower()}`"
        case timedelta():
            return f"`{default.total_seconds():.0f}`"
        case _:
            return f"`{default}`"

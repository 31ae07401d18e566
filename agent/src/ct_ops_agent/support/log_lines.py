"""What the agent has said lately, from the journal. A host without one says nothing."""

from __future__ import annotations

import subprocess

from ct_ops_agent.service.layout import UNIT

_LINES = 500
_PATIENCE_S = 15.0


def journal() -> str:
    """Return the last lines, or why there are none."""
    words = ["journalctl", "--unit", UNIT.name, "--lines", str(_LINES), "--no-pager", "--output", "short-iso"]
    try:
        done = subprocess.run(  # noqa: S603 - a list of words of ours, no shell
            words, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the journal cannot be read: {error}\n"
    return done.stdout or f"the journal says nothing: {done.stderr.strip() or 'no entries'}\n"

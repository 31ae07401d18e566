"""Kept: the definitions on disk, so that checks go on after a restart while the server is away.

``checks.json`` in the data directory, 0600 because a configuration may hold the password of a key store.
Written when the list changed, never for a run. What cannot be read is as good as nothing: the server sends
the list again with its first frame. Only lists that the server can also take back are kept (a server that
names the feature ``definitions``): what an existing server once asked for would otherwise run for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ct_ops_agent.checks.plan import Planned
from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity.files import load_file, write_file
from ct_ops_agent.work import CheckDefinition

_log = logging.getLogger(__name__)

FILE = "checks.json"
_MAX_BYTES = 900_000
"""Below what `load_file` reads."""


class _Check(msgspec.Struct, frozen=True):
    id: str
    type: str
    config: str
    interval_s: float
    timeout_s: float
    since: float


class KeptChecks:
    """The file."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    def load(self) -> tuple[Planned, ...]:
        """Return what was kept, nothing when that cannot be told."""
        try:
            text = load_file(self._path)
            kept = msgspec.json.decode(text, type=list[_Check]) if text else []
        except (DataDirectoryError, msgspec.DecodeError) as error:
            _log.warning("the checks of before are not known until the server sends them: %s", error)
            return ()
        return tuple(_to_planned(check) for check in kept)

    def save(self, checks: Sequence[Planned]) -> None:
        """Keep exactly these. A failure is logged: the checks themselves run."""
        text = msgspec.json.encode([_from_planned(check) for check in checks]).decode()
        if len(text.encode()) > _MAX_BYTES:
            _log.warning("%d checks are too large to be kept over a restart", len(checks))
            text = "[]"
        try:
            if checks or self._path.exists():
                write_file(self._path, text)
        except DataDirectoryError as error:
            _log.warning("the checks are not kept over a restart: %s", error)


def _from_planned(planned: Planned) -> _Check:
    found = planned.definition
    return _Check(
        id=found.check_id,
        type=found.check_type,
        config=found.config_json,
        interval_s=found.interval_s,
        timeout_s=found.timeout_s,
        since=planned.since,
    )


def _to_planned(check: _Check) -> Planned:
    return Planned(
        CheckDefinition(check.id, check.type, check.config, check.interval_s, check.timeout_s), check.since
    )

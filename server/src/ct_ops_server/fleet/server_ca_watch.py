"""Looks after the server CA now and then: takes what time has come for, and warns in time of its end.

Existing agents cannot learn another server CA at all (rule 22), so somebody has to see to each of them: the log says
so 180, 90 and 30 days before. A threshold is said once for each end, not at every start and not by every worker: what
was said is remembered in a file. With no existing agent there is nothing to warn about.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ct_ops_server.authority import files
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_ca import StepError
from ct_ops_server.fleet.anchor_log import AnchorStore
from ct_ops_server.fleet.following import Following, alarm_due, alarm_sentence
from ct_ops_server.fleet.ports import StoreError
from ct_ops_server.fleet.shared_server_cas import SharedServerCas

MEMORY_FILE = "server-ca-alarm.json"
_LOOK_EVERY_S = 600.0
_log = logging.getLogger("ct_ops_server.server_ca")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known about the end of what agents believe."""

    end: datetime
    """Of what existing agents believe."""
    following: Following
    """Of the newest server CA."""
    is_stuck: bool = False
    """This server does not do what it should about the server CA; the log says why."""


class AlarmMemory:
    """Which threshold was said for which end, in a file that all workers share."""

    def __init__(self, data_dir: Path, alone: Callable[[Path], AbstractContextManager[None]]) -> None:
        self._data_dir = data_dir
        self._alone = alone

    def take(self, end: datetime, now: datetime) -> int | None:
        """Return the threshold to warn about now, once.

        Raises:
            AuthorityError: the file cannot be written: better said twice than never.
        """
        with self._alone(self._data_dir):
            due = alarm_due(end, now=now, warned_days=self._warned(end))
            if due is not None:
                document = {"end": end.isoformat(), "days": due}
                files.replace_private(self._path, (json.dumps(document) + "\n").encode())
            return due

    @property
    def _path(self) -> Path:
        return self._data_dir / MEMORY_FILE

    def _warned(self, end: datetime) -> int | None:
        try:
            document = json.loads(files.load_private(self._path) or b"{}")
            return int(document["days"]) if document.get("end") == end.isoformat() else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


class ServerCaWatch:
    """Looks, for as long as it runs."""

    def __init__(
        self,
        store: AnchorStore,
        served: ServedTls,
        shared: SharedServerCas,
        memory: AlarmMemory,
        *,
        observe: Callable[[Outlook, datetime], None],
        now: Callable[[], datetime],
        every_s: float = _LOOK_EVERY_S,
    ) -> None:
        """Prepare; ``observe`` is told what was found, and when."""
        self._store = store
        self._served = served
        self._shared = shared
        self._memory = memory
        self._observe = observe
        self._now = now
        self._every_s = every_s

    async def run(self) -> None:
        """Look, rest, look again. During an outage of the database the latest figures stay."""
        while True:
            try:
                await self.look()
            except (StoreError, AuthorityError) as error:
                _log.warning("nobody knows who can follow the server CA: %s", error)
            await asyncio.sleep(self._every_s)

    async def look(self) -> Outlook:
        """Look once: take what time has come for, and warn when a threshold is crossed.

        Raises:
            StoreError: the store did not answer.
            AuthorityError: what was warned of cannot be remembered.
        """
        await self.take_due()
        tls, now = self._served.current, self._now()
        newest = tls.newest_anchor or tls.certificate_der
        following = await self._store.following(hashlib.sha256(newest).digest())
        outlook = Outlook(tls.existing_end, following, is_stuck=bool(self._shared.problem))
        self._observe(outlook, now)
        if following.existing and self._memory.take(outlook.end, now) is not None:
            existing = following.names[: following.existing]
            _log.error("%s", alarm_sentence(outlook.end, existing, following.existing, now=now))
        return outlook

    async def take_due(self) -> None:
        """Take what time has come for with our own server CAs; why it cannot be is kept and said once.

        Raises:
            StoreError: the store did not answer.
        """
        if self._served.current.state_file is None:
            return
        try:
            await self._shared.take_due()
        except (StepError, AuthorityError) as error:
            self._shared.trouble(str(error))
        else:
            self._shared.trouble("")

"""The server CAs as all nodes of an installation share them: rows that all see, and files that each node acts by.

A step is one transaction, with its entry in the audit log; of two nodes that take it at the same moment one does, and
the other finds it taken. Then the files follow, here and, within seconds, on every node (``settle``): also after a kill
between the two, for whoever starts finds rows that are ahead of its files. Files that are ahead of the rows (the
database is of an older backup, or somebody copied them here) are believed and told to the others, and what they
say that the audit log does not is entered, marked as *found*. Looking takes no step.

Private keys are in the rows from the first step on, sealed under the installation's secret (ADR 23).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from ct_ops_server.audit.decisions import SERVER, Decision
from ct_ops_server.authority import server_ca
from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.life_cycle import Straggler
from ct_ops_server.authority.ports import Heard
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.server_ca import StepError, Turn
from ct_ops_server.authority.server_ca_files import Vault, erase_retired, read_lineage, write_lineage
from ct_ops_server.authority.server_ca_lineage import Lineage
from ct_ops_server.fleet.server_ca_entries import decisions_found, decisions_of, said_of

TOPIC = "server_ca"
"""What the push bus calls a step."""

_ATTEMPTS = 5
_CLOCKS_MAY_DIFFER = timedelta(hours=1)
_log = logging.getLogger("ct_ops_server.server_ca")


class LineageChangedError(Exception):
    """Another step was recorded meanwhile; nothing was changed."""


class StepTakenError(StepError):
    """Another step was taken meanwhile, here or on another node."""

    def __init__(self) -> None:
        super().__init__("another step was taken meanwhile: look at `ct-ops-server ca server status` again")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the rows say."""

    lineage: Lineage | None
    """None: no step was ever recorded."""
    clock: datetime
    """The database's: a second witness of what time it is."""


class ServerCaStore(Protocol):
    """The rows: ``store.server_cas``."""

    async def load(self) -> Recorded:
        """Return what is recorded. Raises ``StoreError``."""

    async def heard(self, worker_id: str) -> Heard:
        """Return the latest version, and the one that a worker last reported. Raises ``StoreError``."""

    async def report(self, worker_id: str, node: str, version: int) -> None:
        """Record that a worker acts by this version. Raises ``StoreError``."""

    async def stragglers(self, version: int) -> Sequence[Straggler]:
        """Return the living workers that act by an older version. Raises ``StoreError``."""

    async def change(self, lineage: Lineage, *, expected: int, decisions: Sequence[Decision]) -> None:
        """Record a version in the place of the expected one, with what the audit log shall say.

        Raises:
            LineageChangedError: another version is recorded.
            StoreError: the store did not answer.
        """


class SharedServerCas:
    """This node's part."""

    def __init__(
        self,
        store: ServerCaStore,
        secret: SealingSecret,
        *,
        data_dir: Path,
        alone: Callable[[Path], AbstractContextManager[None]],
        now: Callable[[], datetime],
    ) -> None:
        """Prepare; ``alone`` keeps other workers from the data directory's files."""
        self._store = store
        self._vault = Vault(data_dir, secret)
        self._alone = alone
        self._now = now
        self._worker_id = self._node = ""
        self._settled: int | None = None
        self.problem = ""
        """Why this node does not do what it should, for people; empty: it does."""

    def follow_as(self, worker_id: str, node: str) -> None:
        """Report from now on, whenever this process catches up, what it acts by."""
        self._worker_id, self._node = worker_id, node

    async def here(self) -> Lineage:
        """Return what the files say. Raises ``AuthorityError``."""
        return await asyncio.to_thread(self._read)

    async def settle(self) -> Lineage:
        """Make files and rows say the same, the later version.

        Raises:
            AuthorityError: a file is damaged, a key of another secret, or these are another installation's.
            StoreError: the store did not answer.
        """
        lineage, _clock = await self._settle()
        return lineage

    async def take(
        self, turn: Turn, *, actor: str, forced: bool = False, planned_for: Lineage | None = None
    ) -> Lineage:
        """Take a step, on all nodes.

        Args:
            turn: the step.
            actor: who takes it; ``SERVER``: time.
            forced: although something speaks against it, for the audit log.
            planned_for: what was looked at when it was decided.

        Raises:
            StepTakenError: another one was taken meanwhile, here or on another node.
            StepError: it does not follow now.
            AuthorityError: files of this node cannot follow.
            StoreError: the store did not answer.
        """
        found = await self.settle()
        if planned_for is not None and planned_for.version != found.version:
            raise StepTakenError
        later = await asyncio.to_thread(self._later, turn, found, by_time=actor == SERVER)
        try:
            await self._store.change(
                later,
                expected=found.version,
                decisions=decisions_of(turn, found, later, actor, forced=forced),
            )
        except LineageChangedError:
            raise StepTakenError from None
        await asyncio.to_thread(self._write, later)
        self._settled = later.version
        _log.log(
            logging.WARNING if turn is Turn.GO_BACK else logging.INFO, "server CA: %s", said_of(turn, later)
        )
        return later

    async def take_due(self) -> Sequence[Turn]:
        """Take what time has come for; return it.

        Raises:
            StepError: it cannot be taken, or this host's clock and the database's differ about it.
            AuthorityError: files of this node cannot follow.
            StoreError: the store did not answer.
        """
        taken = list[Turn]()
        for _ in range(_ATTEMPTS):
            found, clock = await self._settle()
            now = self._now()
            if (turn := server_ca.due(found, now, clock)) is None:
                _must_agree(found, now, clock)
                break
            with suppress(StepTakenError):  # by another worker or node that looked at the same moment
                await self.take(turn, actor=SERVER, planned_for=found)
                taken.append(turn)
        return taken

    async def catch_up(self) -> None:
        """Follow what another node did, and report it; cheap when none did anything. Raises ``StoreError``."""
        heard = await self._store.heard(self._worker_id)
        if heard.latest != self._settled:
            try:
                await self.settle()
            except AuthorityError as error:
                self.trouble(str(error))
                return
            self.trouble("")
        if heard.reported is not None and self._settled is not None and heard.reported != self._settled:
            await self._store.report(self._worker_id, self._node, self._settled)

    async def nodes_behind(self, lineage: Lineage) -> Sequence[str]:
        """Return the nodes with a worker that does not act by this yet. Raises ``StoreError``."""
        found = await self._store.stragglers(lineage.version)
        return sorted({each.node or f"worker {each.worker_id}" for each in found})

    def trouble(self, problem: str) -> None:
        """Remember, and say once, why this node does not do what it should; empty: it does."""
        if problem and problem != self.problem:
            _log.error("the server CA: %s", problem)
        self.problem = problem

    async def _settle(self) -> tuple[Lineage, datetime]:
        for _ in range(_ATTEMPTS):
            here, recorded = await self.here(), await self._store.load()
            there = recorded.lineage
            if there is None and here.version == 0:
                settled: Lineage = here  # nothing was ever done
            elif there is None or here.version > there.version:
                try:
                    settled = await self._tell(here, there)
                except LineageChangedError:
                    continue
            else:
                settled = await self._follow(here, there)
            self._settled = settled.version
            return settled, recorded.clock
        raise AuthorityError(
            self._vault.data_dir, "has server CAs that others change again and again. Look again."
        )

    async def _tell(self, here: Lineage, there: Lineage | None) -> Lineage:
        """Record what the files say and nobody else knows."""
        if there is not None:
            self._must_be_ours(here, there)
        found = [] if there is None else decisions_found(there, here)
        sealed = await asyncio.to_thread(self._sealed, here)
        await self._store.change(sealed, expected=0 if there is None else there.version, decisions=found)
        await asyncio.to_thread(self._write, sealed)
        return sealed

    async def _follow(self, here: Lineage, there: Lineage) -> Lineage:
        if here.version == there.version and here.says_the_same(there):
            await asyncio.to_thread(erase_retired, self._vault.data_dir, there)
            return there
        self._must_be_ours(here, there)
        await asyncio.to_thread(self._write, there)
        if not here.says_the_same(there):
            _log.info("server CA: the files follow version %d", there.version)
        return there

    def _must_be_ours(self, here: Lineage, there: Lineage) -> None:
        if not here.is_of_the_same(there):
            raise AuthorityError(
                self._vault.data_dir,
                "has a server CA of its own, and other servers on this database have another, so agents believe one or the "
                "other. Stop this server, and copy server-ca* and the secret from the data directory of another one into "
                "this one.",
            )

    def _read(self) -> Lineage:
        found = read_lineage(self._vault.data_dir)
        if found is None:
            raise AuthorityError(
                self._vault.data_dir / "server-ca.crt",
                "is missing. Restore the whole directory from a backup.",
            )
        return found

    def _write(self, lineage: Lineage) -> None:
        self._vault.root_of(server_ca.signer_of(lineage, self._now()))  # what cannot be used replaces nothing
        with self._alone(self._vault.data_dir):
            write_lineage(self._vault.data_dir, lineage)

    def _later(self, turn: Turn, found: Lineage, *, by_time: bool) -> Lineage:
        now = self._now()
        if turn is Turn.PREPARE:
            later = server_ca.prepare(found, self._vault, now=now)
        elif turn is Turn.ACTIVATE:
            later = server_ca.activate(found, now=now, by_time=by_time)
        elif turn is Turn.RETIRE:
            later = server_ca.retire(found)
        else:
            later = server_ca.go_back(found, self._vault, now=now)
        return self._sealed(later)

    def _sealed(self, lineage: Lineage) -> Lineage:
        members = (replace(each, sealed_key=self._vault.sealed(each)) for each in lineage.members)
        return replace(lineage, members=tuple(members))


def _must_agree(found: Lineage, here: datetime, database: datetime) -> None:
    """Raise ``StepError`` when time has come by one clock only, and not for a moment."""
    if abs(here - database) < _CLOCKS_MAY_DIFFER or server_ca.due(found, here) is server_ca.due(
        found, database
    ):
        return
    raise StepError(
        f"this host's clock says {here:%Y-%m-%d %H:%M} and the database's {database:%Y-%m-%d %H:%M}, and a step is due by "
        "one of them only. Set the one that is wrong; until they agree no step is taken by time"
    )

"""A data directory whose server CAs are looked after as a running server does it, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ct_ops_server.authority import files
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.server_ca import (
    Turn,
    activate,
    after_activation,
    due,
    go_back,
    open_server_cas,
    prepare,
    retire,
)
from ct_ops_server.authority.server_ca_chain import left_out
from ct_ops_server.authority.server_ca_files import Vault, write_lineage
from ct_ops_server.authority.server_ca_lineage import Lineage, Member
from ct_ops_server.authority.server_certificate import ServerTls, load_or_create_tls


class ServerCaNode:
    """One."""

    def __init__(self, data_dir: Path, secret: SealingSecret, *, names: Sequence[str]) -> None:
        files.open_private_directory(data_dir)
        self.data_dir = data_dir
        self.secret = secret
        self._names = names
        self.lineage: Lineage
        self.taken: list[Turn] = []
        """What time did."""

    def serve(self, now: datetime) -> ServerTls:
        """Do what is due, and return what is served then."""
        self._look(now)
        while (turn := due(self.lineage, now)) is not None:
            self.step(turn, now, by_time=True)
            self.taken.append(turn)
        return load_or_create_tls(self.data_dir, self.secret, names=self._names, now=now)

    def due(self, *clocks: datetime) -> Turn | None:
        """Return what time has come for."""
        return due(self.lineage, *clocks)

    def left_out_by_activation(self, now: datetime) -> tuple[Member, ...]:
        """Return whose believers would be cut off at once."""
        later, chain = after_activation(self.lineage, now)
        return left_out(later, chain, now)

    def step(self, turn: Turn, now: datetime, *, by_time: bool = False) -> Lineage:
        """Take a step."""
        self._look(now)
        vault = Vault(self.data_dir, self.secret)
        if turn is Turn.PREPARE:
            later = prepare(self.lineage, vault, now=now)
        elif turn is Turn.ACTIVATE:
            later = activate(self.lineage, now=now, by_time=by_time)
        elif turn is Turn.RETIRE:
            later = retire(self.lineage)
        else:
            later = go_back(self.lineage, vault, now=now)
        write_lineage(self.data_dir, later)
        self.lineage = later
        return later

    def _look(self, now: datetime) -> None:
        self.lineage = open_server_cas(self.data_dir, self.secret, now=now).lineage

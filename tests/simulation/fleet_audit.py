"""The audit log of a simulated installation: the real chain in real files, beside a store that goes back in time.

The store in memory calls `Chain.note` where the real one appends to the chain in its transaction. The files outlive
every restore; what they tell is what a restored store is told again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.audit import heads
from ct_ops_server.audit.decisions import ROUTINE, Action, Decision
from ct_ops_server.audit.entries import START, Link, chained
from ct_ops_server.audit.examination import examine
from ct_ops_server.audit.keys import unvouched
from ct_ops_server.audit.reading import DIRECTORY, audit_files, read_all
from ct_ops_server.audit.verification import breaks
from ct_ops_server.audit.writing import ChainFiles, FileLimits, Signer
from ct_ops_server.backup.since import Since, read_since

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


class Chain:
    """The head in the database, and the files."""

    def __init__(self, folder: Path, installation_id: str, now: Callable[[], datetime]) -> None:
        self._now = now
        self._directory = folder / DIRECTORY
        self._directory.mkdir(mode=0o700)
        signer = Signer(installation_id, heads.key_name(_KEY.public_key()), _KEY.sign)
        self._files = ChainFiles(
            self._directory, signer, FileLimits(bytes=8_192, keep=timedelta(days=36_500))
        )
        self._files.begin(START, now_ms=self._now_ms())
        self.head: Link = START

    def note(self, decisions: Sequence[Decision]) -> None:
        """Record what was decided."""
        if decisions:
            entries = chained(decisions, self.head, at_ms=self._now_ms())
            self._files.append(entries, now_ms=self._now_ms())
            if any(decision.action not in ROUTINE for decision in decisions):  # as the follower does
                self._files.sign(now_ms=self._now_ms())
            self.head = entries[-1].link

    def go_back(self, head: Link) -> Since:
        """Be the chain of a copy that went on since; return what was decided since, as the files tell it."""
        since = read_since(self._directory, head, keys=[_KEY.public_key()]) or Since()
        assert not breaks(since.chain, after=head)
        self.head = since.chain[-1].link if since.chain else head
        self.note([Decision(Action.DATABASE_RESTORED, "operator", details=unvouched(*since.unvouched))])
        return since

    def defects(self) -> list[str]:
        """Sign the end, and return what is wrong with the files."""
        self._files.sign(now_ms=self._now_ms())
        report = examine(read_all(audit_files(self._directory)), keys=[_KEY.public_key()])
        return [f"the audit log: {found}" for found in report.breaks]

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _now_ms(self) -> int:
        return int(self._now().timestamp() * 1000)

"""A chain in files, as a server leaves it: with a key, a clock and entries that a test can count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import START, Entry, Link, chained
from ct_ops_server.audit.examination import Report, examine
from ct_ops_server.audit.heads import key_name
from ct_ops_server.audit.reading import audit_files, read_all
from ct_ops_server.audit.writing import ChainFiles, FileLimits, Signer

NOW_MS = 1_800_000_000_000


def revocation(number: int) -> Decision:
    details = {"key_id": f"key-{number}", "hostname": f"host-{number}", "status": "active", "reason": "lost"}
    return Decision(Action.AGENT_REVOKED, "ada", agent=f"agent-{number}", details=details)


def entries(count: int, *, after: Link = START) -> list[Entry]:
    first = after.seq + 1
    return list(chained(map(revocation, range(first, first + count)), after, at_ms=NOW_MS))


@dataclass
class AuditWorld:
    """One directory and its key."""

    directory: Path
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def signer(self) -> Signer:
        return Signer("installation-1", key_name(self.private.public_key()), self.private.sign)

    def open(self, limits: FileLimits | None = None) -> ChainFiles:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        return ChainFiles(self.directory, self.signer, limits or FileLimits())

    def write(self, chain: Sequence[Entry], *, sign: bool = True) -> None:
        """Write a chain as one run of a server does."""
        files = self.open()
        if files.reached is None:
            files.begin(START, now_ms=NOW_MS)
        files.append(chain, now_ms=NOW_MS)
        if sign:
            files.sign(now_ms=NOW_MS)
        files.close()

    @property
    def paths(self) -> Sequence[Path]:
        return audit_files(self.directory)

    def report(self) -> Report:
        return examine(read_all(self.paths), keys=[self.private.public_key()])

    def findings(self) -> list[str]:
        return [f"{each.fault} {each.seq}" for each in self.report().breaks]

    def lines(self) -> list[bytes]:
        return self.paths[-1].read_bytes().splitlines(keepends=True)

    def rewrite(self, lines: Iterator[bytes] | Sequence[bytes]) -> None:
        self.paths[-1].write_bytes(b"".join(lines))

"""A decision as a link of the chain.

An entry's hash is SHA-256 of the hash before it and the entry's canonical form: JSON in ASCII, with sorted
keys and no space. Whoever changes, removes or moves an entry has to change every hash after it, and those
are in files and signed heads elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ct_ops_server.audit.decisions import Decision, Detail

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

GENESIS = bytes(32)
"""The hash before the first entry."""


@dataclass(frozen=True, slots=True)
class Link:
    """A place in a chain: everything up to ``seq`` hashes to ``hash``."""

    seq: int
    hash: bytes


START = Link(0, GENESIS)


@dataclass(frozen=True, slots=True)
class Entry:
    """A recorded decision. Unlike a ``Decision`` it is taken as it was found: nothing is made fit."""

    seq: int
    at_ms: int
    """When it was recorded, by the database's clock."""
    action: str
    """As text: a newer version may have recorded what this one does not know."""
    actor: str
    agent: str
    token: str
    subject: str
    details: Mapping[str, Detail]
    hash: bytes

    @property
    def link(self) -> Link:
        """The place of this entry in its chain."""
        return Link(self.seq, self.hash)


def chained(decisions: Iterable[Decision], after: Link, *, at_ms: int) -> Sequence[Entry]:
    """Return the decisions as entries that follow ``after``."""
    entries: list[Entry] = []
    for decision in decisions:
        entry = _unhashed(after.seq + 1, at_ms, decision)
        entries.append(replace(entry, hash=hash_after(after.hash, entry)))
        after = entries[-1].link
    return entries


def fields_of(entry: Entry) -> dict[str, Any]:
    """Return what is hashed of an entry, as JSON's types."""
    return {
        "seq": entry.seq,
        "at_ms": entry.at_ms,
        "action": entry.action,
        "actor": entry.actor,
        "agent": entry.agent,
        "token": entry.token,
        "subject": entry.subject,
        "details": dict(entry.details),
    }


def canonical(fields: Mapping[str, Any]) -> bytes:
    """Return the one way to write ``fields``: JSON in ASCII, with sorted keys and no space."""
    return _encode(dict(fields)).encode()


def hash_after(before: bytes, entry: Entry) -> bytes:
    """Return the hash that ``entry`` must have when it follows ``before``."""
    return hashlib.sha256(before + canonical(fields_of(entry))).digest()


def _unhashed(seq: int, at_ms: int, decision: Decision) -> Entry:
    return Entry(
        seq=seq,
        at_ms=at_ms,
        action=decision.action.value,
        actor=decision.actor,
        agent=decision.agent,
        token=decision.token,
        subject=decision.subject,
        details=decision.details,
        hash=b"",
    )

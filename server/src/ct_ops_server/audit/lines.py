"""The lines of an audit file: JSON in its canonical form, one object a line.

* an *anchor* opens each file: what the first entry in it follows, and whose chain it is;
* an *entry* is a recorded decision with its hash;
* a *head* is signed, and stands behind the entry that it names.

A line counts only when it is exactly what would have been written for what it says: there is no other
spelling of the same entry to hide anything in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ct_ops_server.audit.decisions import Detail
from ct_ops_server.audit.entries import Entry, Link, canonical, fields_of
from ct_ops_server.audit.heads import Head, SignedHead, head_fields

FORMAT = "ct-ops-audit-1"


class LineError(ValueError):
    """A line is not one that was written here."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the first entry of a file follows."""

    link: Link
    at_ms: int
    """When the file was begun."""
    installation: str


Record = Anchor | Entry | SignedHead


def line_of(record: Record) -> bytes:
    """Return the record as a line, with its end."""
    return canonical(_document(record)) + b"\n"


def parse_line(line: bytes) -> Record:
    """Return what a line says.

    Raises:
        LineError: it is not one that ``line_of`` returns.
    """
    try:
        document = json.loads(line)
        record = _record(document)
        exact = line_of(record)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise LineError(str(error)) from error
    if exact.rstrip(b"\n") != line.rstrip(b"\n"):
        raise LineError("it is written in another way")
    return record


def details_from(document: Mapping[str, Any]) -> dict[str, Detail]:
    """Return details as they were before they became JSON, which has lists only."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}


def _document(record: Record) -> dict[str, Any]:
    if isinstance(record, Entry):
        return {"entry": fields_of(record), "hash": record.hash.hex()}
    if isinstance(record, SignedHead):
        return {"head": head_fields(record.head), "signature": record.signature.hex()}
    return {
        "format": FORMAT,
        "anchor": {"seq": record.link.seq, "hash": record.link.hash.hex(), "at_ms": record.at_ms},
        "installation": record.installation,
    }


def _record(document: dict[str, Any]) -> Record:
    if "entry" in document:
        return _entry(document["entry"], bytes.fromhex(document["hash"]))
    if "head" in document:
        head = document["head"]
        known = Head(_link(head), int(head["at_ms"]), str(head["installation"]), str(head["key"]))
        return SignedHead(known, bytes.fromhex(document["signature"]))
    anchor = document["anchor"]
    return Anchor(_link(anchor), int(anchor["at_ms"]), str(document["installation"]))


def _link(fields: Mapping[str, Any]) -> Link:
    return Link(int(fields["seq"]), bytes.fromhex(fields["hash"]))


def _entry(fields: Mapping[str, Any], own_hash: bytes) -> Entry:
    texts = {name: str(fields[name]) for name in ("action", "actor", "agent", "token", "subject")}
    details = details_from(fields["details"])
    return Entry(seq=int(fields["seq"]), at_ms=int(fields["at_ms"]), details=details, hash=own_hash, **texts)

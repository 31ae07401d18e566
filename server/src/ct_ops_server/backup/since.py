"""What was decided after a backup, as the audit log outside the database tells it (rule 25).

What takes something away from somebody is believed of every branch of the files: a revocation may have been
written by a database that was rolled back. What gives something (an approval, a key that followed another) is believed
of the one chain only that goes on where the backup ends. Files that tell half of it are refused (``told``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct_ops_server.audit.decisions import Action
from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.reading import audit_files
from ct_ops_server.audit.replay import continuation, entries_after
from ct_ops_server.backup.errors import BackupError
from ct_ops_server.backup.told import refuse_what_tells_half
from ct_ops_server.enrolment.carried_ports import AnsweredRequest
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.store.replaying import (
    AgentApproved,
    AgentDeleted,
    AgentRevoked,
    Event,
    KeyReplaced,
    KeyShared,
    PlaceTaken,
    RequestAnswered,
    Said,
    Subject,
    TokenRevoked,
    TokenSpent,
)

_SERVER_CA_CHANGES = {
    Action.SERVER_CA_ACTIVATED.value,
    Action.SERVER_CA_RETIRED.value,
    Action.SERVER_CA_WENT_BACK.value,
}


@dataclass(frozen=True, slots=True)
class Since:
    """What a restored database has missed."""

    events: Sequence[Event] = ()
    chain: Sequence[Entry] = ()
    """What follows its own audit log."""
    files: Sequence[Path] = ()
    """Where that was read: they go on at the new place."""
    authority_changed: bool = False
    """The agent CA was changed since: there may be leaves of an authority that the backup does not hold."""
    server_ca_changed: bool = False
    """The server CA was changed since: there may be agents that do not believe what the backup holds."""


def read_since(directory: Path, end: Link, *, installation: str | None = None) -> Since | None:
    """Return what the files in a directory tell; None when they hold nothing newer than ``end``.

    ``installation`` is the id that their anchors have to name; None: any.

    Raises:
        AuditFilesError: they do not tell all of it.
        BackupError: they cannot be read.
    """
    try:
        refuse_what_tells_half(directory, end, installation=installation)
        later = list(entries_after(directory, end.seq))
        chain = continuation(directory, end)
    except OSError as error:
        raise BackupError(f"{directory} cannot be read: {error.strerror or error}") from error
    if not later:
        return None
    believed = {entry.hash for entry in chain}
    told = [
        event
        for entry in later
        if (event := event_of(entry)) is not None
        and (entry.hash in believed or not isinstance(event, AgentApproved | KeyReplaced | PlaceTaken))
    ]
    actions = {entry.action for entry in later}
    return Since(
        told,
        chain,
        files=audit_files(directory),
        authority_changed=Action.CA_ACTIVATED.value in actions,
        server_ca_changed=bool(actions & _SERVER_CA_CHANGES),
    )


def event_of(entry: Entry) -> Event | None:
    """Return what a restored database has to be told of an entry; None: nothing."""
    make = _EVENTS.get(entry.action)
    return None if make is None else make(entry)


def _revoked(entry: Entry) -> Event:
    return AgentRevoked(_subject(entry), _said(entry))


def _deleted(entry: Entry) -> Event:
    status = _text(entry, "status")
    # Of an unknown one, that which bars: who was deleted by a newer version must not come back by an older one.
    known = AgentStatus(status) if status in set(AgentStatus) else AgentStatus.REVOKED
    return AgentDeleted(_subject(entry), known, _said(entry))


def _approved(entry: Entry) -> Event:
    return AgentApproved(entry.agent, _said(entry))


def _key_replaced(entry: Entry) -> Event | None:
    der = _public_key(entry)
    if not der:
        return None
    return KeyReplaced(
        entry.agent, _text(entry, "key_id"), der, _said(entry), old_key_id=_text(entry, "old_key_id")
    )


def _split(entry: Entry) -> Event:
    return KeyShared(entry.agent, _said(entry), _text(entry, "key_id"))


def _place_taken(entry: Entry) -> Event:
    return PlaceTaken(
        _subject(entry), entry.subject, _text(entry, "old_key_id"), _public_key(entry), _said(entry)
    )


def _spent(entry: Entry) -> Event | None:
    return TokenSpent(entry.token) if entry.token else None


def _token_revoked(entry: Entry) -> Event:
    return TokenRevoked(entry.token, _said(entry))


def _answered(entry: Entry) -> Event | None:
    try:
        digest, leaf = (bytes.fromhex(_text(entry, f"{name}_sha256")) for name in ("request", "leaf"))
    except ValueError:
        return None
    answered = AnsweredRequest(entry.subject, digest, _text(entry, "key_id"), entry.agent, leaf, entry.actor)
    return RequestAnswered(answered, entry.at_ms)


_EVENTS: Mapping[str, Callable[[Entry], Event | None]] = {
    Action.AGENT_REVOKED.value: _revoked,
    Action.AGENT_REJECTED.value: _revoked,
    Action.AGENT_DEREGISTERED.value: _revoked,
    Action.AGENT_DELETED.value: _deleted,
    Action.AGENT_APPROVED.value: _approved,
    Action.AGENT_KEY_REPLACED.value: _key_replaced,
    Action.AGENT_ADMITTED.value: _spent,
    Action.TOKEN_REVOKED.value: _token_revoked,
    Action.AGENT_SPLIT.value: _split,
    Action.AGENT_REPLACED.value: _place_taken,
    Action.ENROLMENT_SIGNED.value: _answered,
}


def _public_key(entry: Entry) -> bytes:
    try:
        return base64.b64decode(_text(entry, "public_key"), validate=True)
    except binascii.Error:
        return b""


def _subject(entry: Entry) -> Subject:
    return Subject(entry.agent, _text(entry, "key_id"), _text(entry, "hostname"))


def _said(entry: Entry) -> Said:
    return Said(entry.actor, _text(entry, "reason"), entry.at_ms)


def _text(entry: Entry, name: str) -> str:
    value = entry.details.get(name, "")
    return value if isinstance(value, str) else ""

"""What was decided after a backup, as the audit log outside the database tells it (rule 25).

What takes something away from somebody is believed of everything that the files tell, also of branches: a revocation may have
been written by a database that was rolled back. What gives something (an approval, a key that followed another, a
place that another host took) is believed of the one chain that goes on where the backup ends, as far as heads vouch for it
that a known key signed: whoever can write to a folder can write entries, and cannot sign. What is not believed is itemised.

Files that tell half of it are refused (``told``), unless the caller does with what they do tell.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ct_ops_server.audit.decisions import Action
from ct_ops_server.audit.entries import Entry, Link
from ct_ops_server.audit.heads import SignedHead
from ct_ops_server.audit.reading import audit_files
from ct_ops_server.audit.replay import entries_after
from ct_ops_server.audit.vouching import Vouched, vouched_chain
from ct_ops_server.backup.errors import BackupError
from ct_ops_server.backup.told import AuditFilesError, refuse_what_tells_half
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


class Why(StrEnum):
    """Why an entry is not believed to have given something."""

    UNSIGNED = "no signed head reaches it"
    STRANGER = "the heads that reach it are signed with a key that the backup does not know"
    BRANCH = "it is not in the chain that goes on where the backup ends"
    DOUBTED = "an earlier restore put it back and found nobody who vouched for it"


@dataclass(frozen=True, slots=True)
class Disbelieved:
    """An entry that would have given something."""

    entry: Entry
    why: Why
    instead: str = ""
    """What was done of it all the same; empty: nothing."""


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
    vouched_through: int = 0
    """The last entry that a signed head reaches."""
    disbelieved: Sequence[Disbelieved] = ()
    flaw: str = ""
    """Why the files do not tell all of it; empty: they do."""

    @property
    def unvouched(self) -> tuple[int, int]:
        """The first and last number of what nobody vouches for in the chain; the first is larger when there is nothing."""
        last = self.chain[-1].seq if self.chain else self.vouched_through
        return self.vouched_through + 1, last


def read_since(
    directory: Path,
    end: Link,
    *,
    keys: Sequence[Ed25519PublicKey],
    installation: str | None = None,
    kept: Sequence[SignedHead] = (),
    forgiving: bool = False,
) -> Since | None:
    """Return what the files in a directory tell; None when they hold nothing newer than ``end``.

    Args:
        directory: holds audit files.
        end: the last entry of the backup.
        keys: those that sign heads, as the backup knows them.
        installation: the id that anchors and heads have to name; None: any.
        kept: heads that were kept elsewhere: the files have to have what they name.
        forgiving: take what there is of files that do not tell all of it.

    Raises:
        AuditFilesError: they do not tell all of it.
        BackupError: they cannot be read.
    """
    try:
        flaw = _flaw_of(directory, end, installation, kept, forgiving=forgiving)
        later = list(entries_after(directory, end.seq, installation=installation))
        vouched = vouched_chain(directory, end, keys=keys, installation=installation)
    except OSError as error:
        raise BackupError(f"{directory} cannot be read: {error.strerror or error}") from error
    if not later:
        return None
    events, disbelieved = _believed(vouched, later)
    actions = {entry.action for entry in later}
    return Since(
        events,
        vouched.chain,
        files=audit_files(directory),
        authority_changed=Action.CA_ACTIVATED.value in actions,
        server_ca_changed=bool(actions & _SERVER_CA_CHANGES),
        vouched_through=vouched.through,
        disbelieved=disbelieved,
        flaw=flaw,
    )


def _flaw_of(
    directory: Path, end: Link, installation: str | None, kept: Sequence[SignedHead], *, forgiving: bool
) -> str:
    try:
        refuse_what_tells_half(directory, end, installation=installation, kept=kept)
    except AuditFilesError as error:
        if not forgiving:
            raise
        return str(error)
    return ""


def _believed(vouched: Vouched, later: Sequence[Entry]) -> tuple[Sequence[Event], Sequence[Disbelieved]]:
    """Return what to do again: first what is vouched for, in its order, then what anything else takes away."""
    sure = [entry for entry in vouched.chain if vouched.vouches_for(entry)]
    events = [event for entry in sure if (event := event_of(entry)) is not None]
    seen = {entry.hash: entry for entry in sure}
    disbelieved: list[Disbelieved] = []
    for entry in later:
        if seen.get(entry.hash) == entry:  # it is there twice, or was done
            continue
        seen.setdefault(entry.hash, entry)
        event = event_of(entry)
        taken, instead = (None, "") if event is None else _what_it_takes(event)
        if taken is not event:
            disbelieved.append(Disbelieved(entry, _why(vouched, entry), instead))
        if taken is not None:
            events.append(taken)
    return events, disbelieved


def _what_it_takes(event: Event) -> tuple[Event | None, str]:
    """Return what an event takes away, and in words what that is when it is not all of it."""
    match event:
        case AgentApproved() | KeyReplaced():
            return None, ""
        case PlaceTaken():
            return replace(event, public_key_der=b""), "the agent is revoked"
        case KeyShared(key_id=key_id) if key_id:
            # Who holds a key that was split may come back, as one who waits: not with a key that somebody made up.
            return replace(
                event, key_id=""
            ), "copies of the agent that hold its key have to make keys of their own"
        case AgentDeleted(agent, _, said):
            # Whose row is gone is barred by nothing but what its deletion says: a revoked agent would come back by it.
            return AgentRevoked(agent, said), "the agent is revoked, not deleted"
        case _:
            return event, ""


def _why(vouched: Vouched, entry: Entry) -> Why:
    if not vouched.has(entry):
        return Why.BRANCH
    if entry.seq <= vouched.through:
        return Why.DOUBTED
    return Why.STRANGER if vouched.strangers else Why.UNSIGNED


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

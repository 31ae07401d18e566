"""What a restore tells its operator: what was done again, what was not believed, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ct_ops_server.cli.logs import escaped

if TYPE_CHECKING:
    from ct_ops_server.backup.returning import Returned
    from ct_ops_server.backup.since import Disbelieved, Since

_SHOWN = 20


def what_was_done(done: Returned) -> list[str]:
    """Return what an operator has to know of a restore, in sentences."""
    made = datetime.fromtimestamp(done.about.made_at_ms / 1000, UTC)
    said = [f"restored the backup of {made:%Y-%m-%d %H:%M:%S} UTC, {sum(done.about.counts.values())} rows"]
    if done.kept is not None:
        said.append(f"what was there is kept in {done.kept}")
    if done.audit_aside is not None:
        said.append(
            f"the audit files that were here are another installation's, and are kept in {done.audit_aside}"
        )
    said += [f"left alone, because you look after it: {path}" for path in done.left_alone]
    said += [f"decided again since then: {count} {what}" for what, count in done.settled.replayed.items()]
    if done.since is not None:
        said += disbelieved_lines(done.since)
        said += _changes_of_authorities(done.since)
    if done.settled.tokens_revoked:
        said.append(f"{done.settled.tokens_revoked} enrolment tokens are revoked: make new ones")
    said.append("start the server; agents come back by themselves and deliver again what they still hold")
    return said


def disbelieved_lines(since: Since) -> list[str]:
    """Return how far the audit files were believed, and which entries of them were not, in sentences."""
    lines: list[str] = []
    if since.flaw:
        lines.append(
            f"the audit files do not tell everything, and only what they tell was done again: {since.flaw}"
        )
    first, last = since.unvouched
    if first <= last:
        lines.append(
            f"signed heads vouch for the audit files through entry {since.vouched_through}; of entries {first} to {last} only what "
            "takes away was believed"
        )
    lines += [_sentence(each) for each in since.disbelieved[:_SHOWN]]
    if len(since.disbelieved) > _SHOWN:
        lines.append(
            f"and {len(since.disbelieved) - _SHOWN} more were not believed: --json prints all of them"
        )
    if since.disbelieved:
        lines.append("if you know that it was decided so, decide it again")
    return lines


def disbelieved_view(since: Since | None) -> list[dict[str, object]]:
    """Return the entries that were not believed as objects."""
    shown: Sequence[Disbelieved] = () if since is None else since.disbelieved
    return [
        {
            "seq": each.entry.seq,
            "action": each.entry.action,
            "agent": each.entry.agent,
            "actor": each.entry.actor,
            "why": each.why.value,
            "instead": each.instead,
        }
        for each in shown
    ]


def _sentence(found: Disbelieved) -> str:
    entry = found.entry
    what = escaped(f"entry {entry.seq}, {entry.action} of {entry.agent} by {entry.actor}")
    return f"not believed: {what}: {found.why.value}" + (f"; {found.instead}" if found.instead else "")


def _changes_of_authorities(since: Since) -> list[str]:
    said: list[str] = []
    if since.authority_changed:
        said.append(
            "since the backup the agent CA was changed: agents with a leaf of the new one must register again; restore a "
            "later backup if there is one"
        )
    if since.server_ca_changed:
        said.append(
            "since the backup the server's CA was changed: agents that believe only the new one will not believe this server. "
            "Before you start it, copy the files server-ca* of the lost data directory here, if it can still be read; else "
            "restore a later backup, or enrol those agents anew"
        )
    return said

"""What is recorded of tokens, admissions, refusals and leaves: see ``audit``.

Pure: the store appends them in the transaction that carries them out. A leaf is named by its serial and the
agent CA that signed it, a token by its id; neither is ever in an entry.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

from ct_ops_server.audit.decisions import Action, Decision, Detail, agent_actor
from ct_ops_server.audit.thinning import Tally
from ct_ops_server.enrolment.model import LeafOccasion, LeafRecord, NewAgent, NewKey, TokenTerms

ENROLMENT = "enrolment"
"""The actor of what the server decides about an application by its rules."""

_ACTIONS = {
    LeafOccasion.REGISTER: Action.LEAF_ISSUED,
    LeafOccasion.RENEWAL: Action.LEAF_RENEWED,
}


def admitted(new: NewAgent, leaf: LeafRecord | None) -> Decision:
    """Return the record of an admission, with the first leaf if there is one."""
    application = new.application
    details: dict[str, Detail] = {
        "key_id": application.key_id,
        "hostname": application.hostname,
        "address": application.observed_address,
        "status": new.status.value,
        "evidence": new.evidence,
    }
    if leaf is not None:
        details |= leaf_details(leaf)
    action = Action.AGENT_RESTORED if new.token_id is None else Action.AGENT_ADMITTED
    return Decision(action, ENROLMENT, agent=new.id, token=new.token_id or "", details=details)


def leaf_given(leaf: LeafRecord, occasion: LeafOccasion) -> Decision:
    """Return the record of a leaf for an agent that is there."""
    return Decision(
        _ACTIONS[occasion],
        agent_actor(leaf.agent_id),
        agent=leaf.agent_id,
        subject=leaf.serial,
        details=leaf_details(leaf),
    )


def key_replaced(agent_id: str, old_key_id: str, key: NewKey, leaf: LeafRecord) -> Decision:
    """Return the record of a key that is followed by another: whole, for a restored database to know it again."""
    public_key = base64.b64encode(key.public_key_der).decode()
    details = {"old_key_id": old_key_id, "key_id": key.key_id, "public_key": public_key} | leaf_details(leaf)
    return Decision(Action.AGENT_KEY_REPLACED, agent_actor(agent_id), agent=agent_id, details=details)


def token_made(token_id: str, terms: TokenTerms, *, actor: str) -> Decision:
    """Return the record of a new token."""
    return Decision(Action.TOKEN_MADE, actor, token=token_id, details=_terms(terms))


def token_imported(token_id: str, terms: TokenTerms, *, actor: str, uses: int) -> Decision:
    """Return the record of a token that was taken over."""
    details = _terms(terms) | {"uses_before": uses}
    return Decision(Action.TOKEN_IMPORTED, actor, token=token_id, details=details)


def token_revoked(token_id: str, *, actor: str, reason: str) -> Decision:
    """Return the record of a revoked token."""
    return Decision(Action.TOKEN_REVOKED, actor, token=token_id, details={"reason": reason})


def refused(reason: str, token_id: str, tally: Tally) -> Decision:
    """Return the record of applications that were refused."""
    details: dict[str, Detail] = {
        "count": tally.count,
        "first": _moment(datetime.fromtimestamp(tally.first_s, UTC)),
        "last": _moment(datetime.fromtimestamp(tally.last_s, UTC)),
        "hosts": tally.hosts,
        "addresses": tally.addresses,
    }
    return Decision(Action.REGISTER_REFUSED, ENROLMENT, token=token_id, subject=reason, details=details)


def leaf_details(leaf: LeafRecord) -> dict[str, Detail]:
    """Return what says which leaf it is."""
    return {
        "serial": leaf.serial,
        "not_after": _moment(leaf.not_after),
        "authority": leaf.authority_sha256.hex(),
    }


def _terms(terms: TokenTerms) -> dict[str, Detail]:
    said: Mapping[str, Detail | None] = {
        "label": terms.label,
        "auto_approve": terms.auto_approve,
        "max_uses": terms.max_uses,
        "expires_at": None if terms.expires_at is None else _moment(terms.expires_at),
        "tags": tuple(f"{tag.key}={tag.value}" for tag in terms.tags),
        "networks": terms.networks,
        "hostname_pattern": terms.hostname_pattern,
    }
    return {name: value for name, value in said.items() if value not in {None, "", ()}}


def _moment(when: datetime) -> str:
    return when.isoformat(timespec="seconds")

"""What the audit log and the log say of a step of the server CA. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ct_ops_server.audit.decisions import SERVER, Action, Decision
from ct_ops_server.authority.server_ca import Turn
from ct_ops_server.authority.server_ca_lineage import Lineage, Member, Role, changes_of_role

_ACTIONS = {
    Turn.PREPARE: Action.SERVER_CA_PREPARED,
    Turn.ACTIVATE: Action.SERVER_CA_ACTIVATED,
    Turn.RETIRE: Action.SERVER_CA_RETIRED,
    Turn.GO_BACK: Action.SERVER_CA_WENT_BACK,
}
_FOUND = {
    Role.NEXT: Action.SERVER_CA_PREPARED,
    Role.SIGNS: Action.SERVER_CA_ACTIVATED,
    Role.RETIRED: Action.SERVER_CA_RETIRED,
}


def decisions_of(
    turn: Turn, before: Lineage, later: Lineage, actor: str, *, forced: bool
) -> Sequence[Decision]:
    """Return a step for the audit log: one entry for each server CA that something becomes of."""
    about: Sequence[Member | None] = (later.signs,)
    if turn is Turn.PREPARE:
        about = (later.following,)
    elif turn is Turn.RETIRE:
        about = [each for each in changes_of_role(before, later) if each.role is Role.RETIRED]
    return [_decision(_ACTIONS[turn], each, actor, {"forced": forced}) for each in about if each is not None]


def decisions_found(there: Lineage, here: Lineage) -> Sequence[Decision]:
    """Return what files say and the audit log may not: somebody took these steps, and nobody entered them here."""
    return [
        _decision(_FOUND[each.role], each, SERVER, {"forced": False, "found": True})
        for each in changes_of_role(there, here)
        if each.role in _FOUND
    ]


def said_of(turn: Turn, later: Lineage) -> str:
    """Return what the log says of a step."""
    signs = later.signs.sha256.hex()[:16]
    if turn is Turn.PREPARE and later.following is not None:
        return f"{later.following.sha256.hex()[:16]} is prepared, and announced to agents beside {signs}"
    if turn is Turn.ACTIVATE:
        return f"{signs} signs the server's certificate from now on"
    if turn is Turn.GO_BACK:
        return (
            f"{signs} signs again: a clock was ahead when time let the next one sign, and agents were cut off"
        )
    return f"those before {signs} are retired"


def _decision(action: Action, member: Member, actor: str, details: dict[str, bool]) -> Decision:
    return Decision(action, actor, subject=member.sha256.hex(), details=details)

"""What the audit log says of a step in the life of an agent CA or a token key."""

from __future__ import annotations

from collections.abc import Mapping

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.authority.life_cycle import Kind, Step

_ACTIONS: Mapping[tuple[Kind, Step], Action] = {
    (Kind.CA, Step.PREPARE): Action.CA_PREPARED,
    (Kind.CA, Step.ACTIVATE): Action.CA_ACTIVATED,
    (Kind.CA, Step.RETIRE): Action.CA_RETIRED,
    (Kind.CA, Step.DISCARD): Action.CA_RETIRED,
    (Kind.CA, Step.GO_BACK): Action.CA_ACTIVATED,
    (Kind.JWT, Step.PREPARE): Action.SIGNING_KEY_PREPARED,
    (Kind.JWT, Step.ACTIVATE): Action.SIGNING_KEY_ACTIVATED,
    (Kind.JWT, Step.RETIRE): Action.SIGNING_KEY_RETIRED,
    (Kind.JWT, Step.DISCARD): Action.SIGNING_KEY_RETIRED,
    (Kind.JWT, Step.GO_BACK): Action.SIGNING_KEY_ACTIVATED,
}


def step_taken(
    kind: Kind, step: Step, name: str, *, actor: str, forced_over: tuple[str, ...] = ()
) -> Decision:
    """Return the entry for a step; ``forced_over`` says what spoke against it."""
    details: dict[str, str | tuple[str, ...]] = {"step": step.value}
    if forced_over:
        details["forced_over"] = forced_over
    return Decision(_ACTIONS[kind, step], actor, subject=name, details=details)


def recognised(name: str, *, actor: str) -> Decision:
    """Return the entry for a foreign agent CA whose leaves prove keys from now on."""
    return Decision(Action.CA_RECOGNISED, actor, subject=name)


def renewed_by(before: str, name: str, *, actor: str) -> Decision:
    """Return the entry for an agent CA that goes on with a new certificate, or with other certificates above it."""
    return Decision(Action.CA_RENEWED, actor, subject=name, details={"instead_of": before})


def lost(kind: Kind, name: str, new: str, *, actor: str) -> Decision:
    """Return the entry for a new one that signs because the private key of the one before is lost."""
    details = {"step": Step.ACTIVATE.value, "instead_of_lost": name}
    return Decision(_ACTIONS[kind, Step.ACTIVATE], actor, subject=new, details=details)

"""When a genuine agent token opens a stream, and when it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ct_ops_server.authority.agent_token import AgentTokenClaims, Audience
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.sessions import Greeting, refusal_reason, token_fault

NOW = datetime(2030, 1, 2, tzinfo=UTC)
LEAF, OTHER_LEAF = b"leaf", b"other leaf"
GREETING = Greeting("a1", "key-a1", LEAF, "token")


def claims(
    agent_id: str = "a1",
    audience: Audience | None = Audience.AGENT,
    *,
    expired: bool = False,
    leaf: bytes | None = LEAF,
) -> AgentTokenClaims:
    return AgentTokenClaims(agent_id, audience, NOW, expired, leaf)


@pytest.mark.parametrize("audience", [Audience.AGENT, None])
def test_a_token_expired_or_not_opens_a_stream_beside_a_valid_leaf(audience: Audience | None) -> None:
    """Nobody is locked out for having been offline; existing servers' tokens name no audience."""
    assert token_fault(claims(audience=audience), GREETING) is None
    assert token_fault(claims(audience=audience, expired=True), GREETING) is None


def test_a_renewed_leaf_keeps_an_agents_full_token() -> None:
    """Only a bootstrap token is tied to one leaf."""
    assert token_fault(claims(leaf=OTHER_LEAF), GREETING) is None


@pytest.mark.parametrize("audience", [Audience.AGENT, Audience.BOOTSTRAP, None])
def test_attack_another_agents_token_opens_no_stream(audience: Audience | None) -> None:
    """Whatever its audience, it must be the leaf's own agent's."""
    assert token_fault(claims("a2", audience), GREETING) == "agent_token_of_another_agent"


def test_a_bootstrap_token_counts_while_young_and_beside_its_own_leaf() -> None:
    """It was given to somebody who had proven nothing."""
    young = claims(audience=Audience.BOOTSTRAP)
    old = claims(audience=Audience.BOOTSTRAP, expired=True)
    elsewhere = claims(audience=Audience.BOOTSTRAP, leaf=OTHER_LEAF)
    unbound = claims(audience=Audience.BOOTSTRAP, leaf=None)

    assert token_fault(young, GREETING) is None
    assert token_fault(old, GREETING) == "agent_token_expired"
    assert token_fault(elsewhere, GREETING) == "agent_token_invalid"
    assert token_fault(unbound, GREETING) == "agent_token_invalid"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "unknown_agent"),
        (AgentStatus.PENDING, "pending"),
        (AgentStatus.REVOKED, "revoked"),
        (AgentStatus.ACTIVE, "superseded"),
    ],
)
def test_the_row_says_why_there_is_no_service(status: AgentStatus | None, reason: str) -> None:
    """An active agent without service has a younger stream."""
    assert refusal_reason(status) == reason

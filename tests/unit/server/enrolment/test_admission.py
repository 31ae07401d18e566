"""Every row of the decision table of ``enrolment.admission``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ct_ops_server.enrolment.admission import Admit, HandOverStored, Refuse, Verdict, Wait, Welcome, decide
from ct_ops_server.enrolment.model import (
    Collision,
    EnrolledAgent,
    Refusal,
    TokenRecord,
    TokenState,
    TokenTerms,
)
from ct_ops_server.fleet.model import AgentStatus

NOW = datetime(2030, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def token(
    *,
    auto_approve: bool = True,
    uses: int = 0,
    max_uses: int | None = None,
    expires_at: datetime | None = None,
    revoked_at: datetime | None = None,
) -> TokenRecord:
    terms = TokenTerms("label", auto_approve=auto_approve, max_uses=max_uses, expires_at=expires_at)
    return TokenRecord("t1", terms, uses, NOW - HOUR, "somebody", revoked_at)


GOOD = token()
EXPIRED = token(expires_at=NOW)
EXHAUSTED = token(uses=1, max_uses=1)
REVOKED = token(revoked_at=NOW - HOUR)


def agent(status: AgentStatus) -> EnrolledAgent:
    return EnrolledAgent("a1", status, None, None, None, None, None, b"key")


def verdict(
    *,
    known: EnrolledAgent | None = None,
    proven: bool = False,
    given: bool = True,
    token: TokenRecord | None = None,
    collision: Collision | None = None,
) -> Verdict:
    return decide(known=known, proven=proven, token_given=given, token=token, collision=collision, now=NOW)


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("presented", [GOOD, EXPIRED])
def test_a_revoked_key_is_told_so(presented: TokenRecord, proven: bool) -> None:  # noqa: FBT001  a column
    """No token and no proof brings a revoked key back."""
    found = verdict(known=agent(AgentStatus.REVOKED), proven=proven, token=presented)

    assert Refuse(Refusal.REVOKED) == found


@pytest.mark.parametrize("presented", [GOOD, EXPIRED, EXHAUSTED])
def test_a_pending_key_is_told_to_wait(presented: TokenRecord) -> None:
    """A poll spends nothing and admits nobody, whatever became of its token meanwhile."""
    waiting = agent(AgentStatus.PENDING)

    assert Wait(waiting) == verdict(known=waiting, token=presented)


@pytest.mark.parametrize("presented", [None, GOOD, EXPIRED, REVOKED])
def test_a_proven_active_key_gets_everything_even_without_a_token(presented: TokenRecord | None) -> None:
    """The key is the identity; the enrolment token only introduced it."""
    known = agent(AgentStatus.ACTIVE)

    assert Welcome(known) == verdict(known=known, proven=True, given=presented is not None, token=presented)


@pytest.mark.parametrize("presented", [GOOD, EXPIRED, EXHAUSTED, REVOKED])
def test_an_unproven_active_key_gets_only_what_is_stored(presented: TokenRecord) -> None:
    """A replayed CSR beside a token that was once issued here earns nothing usable without the key."""
    known = agent(AgentStatus.ACTIVE)

    assert HandOverStored(known) == verdict(known=known, token=presented)


@pytest.mark.parametrize("status", list(AgentStatus))
@pytest.mark.parametrize(("given", "reason"), [(False, Refusal.TOKEN_MISSING), (True, Refusal.TOKEN_UNKNOWN)])
def test_attack_probing_for_known_keys_gets_the_answer_of_an_unknown_one(
    status: AgentStatus,
    given: bool,  # noqa: FBT001  a column
    reason: Refusal,
) -> None:
    """Without a token of ours nobody learns which keys are enrolled, nor their status."""
    stranger = verdict(given=given)

    assert Refuse(reason) == stranger
    assert stranger == verdict(known=agent(status), given=given)


@pytest.mark.parametrize(
    ("dead", "reason"),
    [
        (EXPIRED, Refusal.TOKEN_EXPIRED),
        (EXHAUSTED, Refusal.TOKEN_EXHAUSTED),
        (REVOKED, Refusal.TOKEN_REVOKED),
    ],
)
def test_a_dead_token_admits_nobody_and_says_why(dead: TokenRecord, reason: Refusal) -> None:
    """Each way for a token to end has its own reason."""
    assert Refuse(reason) == verdict(token=dead)


def test_a_live_twin_is_refused_even_with_auto_approve() -> None:
    """Same hostname and same source address as a host that is online now."""
    twin = Collision("a2", live=True, same_address=True)

    assert Refuse(Refusal.HOST_ALREADY_ENROLLED) == verdict(token=GOOD, collision=twin)


@pytest.mark.parametrize(
    ("live", "same_address", "state"),
    [(True, False, "online"), (False, True, "offline"), (False, False, "offline")],
)
def test_the_same_hostname_waits_for_an_operator_with_the_evidence(
    live: bool,  # noqa: FBT001  a column
    same_address: bool,  # noqa: FBT001  a column
    state: str,
) -> None:
    """A mere overlap is no reason to refuse, and none to let in unseen."""
    found = verdict(token=GOOD, collision=Collision("a2", live=live, same_address=same_address))

    assert isinstance(found, Admit)
    assert found.status is AgentStatus.PENDING
    assert "a2" in found.evidence
    assert f"({state})" in found.evidence


@pytest.mark.parametrize(
    ("auto_approve", "status"), [(True, AgentStatus.ACTIVE), (False, AgentStatus.PENDING)]
)
def test_a_good_token_admits_at_once_or_after_approval(
    auto_approve: bool,  # noqa: FBT001  a column
    status: AgentStatus,
) -> None:
    """The token's terms decide, nothing that the host says."""
    good = token(auto_approve=auto_approve)

    assert Admit(good, status) == verdict(token=good)


def test_a_revoked_token_says_so_before_it_says_expired_or_exhausted() -> None:
    """The operator's decision comes first, then the clock, then the count."""
    all_three = token(revoked_at=NOW, expires_at=NOW, uses=1, max_uses=1)
    two = token(expires_at=NOW, uses=1, max_uses=1)

    assert (TokenState.REVOKED, TokenState.EXPIRED) == (all_three.state(NOW), two.state(NOW))


def test_a_token_ends_at_the_very_moment_it_names() -> None:
    """One microsecond before it is good, at the moment itself it is not."""
    ending = token(expires_at=NOW)

    assert TokenState.ACTIVE is ending.state(NOW - timedelta(microseconds=1))
    assert TokenState.EXPIRED is ending.state(NOW)

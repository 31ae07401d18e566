"""Every row of the decision table of ``enrolment.admission``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.values import APPLICATION
from ct_ops_server.enrolment.admission import (
    RULES,
    Admit,
    Case,
    HandOverStored,
    Refuse,
    Restore,
    SplitOff,
    Verdict,
    Wait,
    Welcome,
    decide,
    table_markdown,
)
from ct_ops_server.enrolment.model import (
    Application,
    Collision,
    EnrolledAgent,
    Findings,
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
    key_is_barred: bool = False,
    leaf_agent_is_taken: bool = False,
    applied: Application = APPLICATION,
) -> Verdict:
    """Decide about ``applied``, with or without a token in it."""
    application = replace(applied, token="tok_shown" if given else "", key_is_proven=proven)
    findings = Findings(known, token, collision, key_is_barred, leaf_agent_is_taken)
    return decide(application, findings, now=NOW)


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


@pytest.mark.parametrize("presented", [None, GOOD, REVOKED])
def test_a_key_deleted_while_revoked_is_told_that_it_is_revoked(presented: TokenRecord | None) -> None:
    """Deleting a revoked agent does not let its key back in, with whatever token."""
    found = verdict(token=presented, proven=presented is None, key_is_barred=True)

    assert Refuse(Refusal.REVOKED) == found


def test_attack_probing_for_barred_keys_gets_the_answer_of_an_unknown_one() -> None:
    """Without a token of ours nobody learns which keys were revoked."""
    assert Refuse(Refusal.TOKEN_UNKNOWN) == verdict(key_is_barred=True)


def test_an_agent_that_a_restore_forgot_comes_back_pending_under_its_own_id() -> None:
    """A valid leaf of ours is proof that it was admitted; whether it still should be, an operator says."""
    found = verdict(given=False, proven=True, applied=replace(APPLICATION, leaf_agent_id="a9"))

    assert Restore("a9", "enrolled after the backup") == found


def test_attack_a_copy_does_not_come_back_as_an_agent_that_a_restore_forgot() -> None:
    """Its leaf names the agent as the original's does: a key that copies share proves nobody."""
    application = replace(APPLICATION, token="", leaf_agent_id="a9")
    found = decide(application, Findings(None, None, None, split_from="a9"), now=NOW)

    assert SplitOff("a9") == found


@pytest.mark.parametrize("is_taken", [False, True])
@pytest.mark.parametrize("names", ["a9", "a8"])
def test_a_side_of_an_agent_that_was_split_and_then_forgotten_comes_back_in_quarantine(
    names: str,
    is_taken: bool,  # noqa: FBT001  a column
) -> None:
    """Until another key followed, the host that was kept holds that one too: it must not lose its identity.

    Where the leaf names another agent, or that one is there or was deleted, it is a copy.
    """
    application = replace(APPLICATION, token="", key_is_proven=True, leaf_agent_id=names)
    findings = Findings(leaf_agent_is_taken=is_taken, split_from="a9", split_is_open=True)
    found = decide(application, findings, now=NOW)

    comes_back = names == "a9" and not is_taken
    again = Restore("a9", "enrolled and split after the backup: copies hold its key", AgentStatus.QUARANTINED)
    assert (again if comes_back else SplitOff("a9")) == found


def test_a_deleted_agent_does_not_come_back_by_its_leaf() -> None:
    """What an operator deleted stays deleted; it may apply with a token like anybody."""
    found = verdict(
        given=False, proven=True, applied=replace(APPLICATION, leaf_agent_id="a9"), leaf_agent_is_taken=True
    )

    assert Refuse(Refusal.TOKEN_MISSING) == found


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        (("198.51.100.0/24",), "198.51.100.7", True),
        (("198.51.100.0/24",), "203.0.113.9", False),
        (("192.0.2.0/24", "2001:db8::/32"), "2001:db8::7", True),
        (("192.0.2.0/24",), "2001:db8::7", False),
        ((), "203.0.113.9", True),
    ],
)
def test_a_token_may_be_for_certain_networks(
    networks: tuple[str, ...],
    address: str,
    allowed: bool,  # noqa: FBT001  a column
) -> None:
    """What counts is the address that the front door saw, never one that the agent names."""
    terms = replace(GOOD.terms, networks=networks)
    found = verdict(token=replace(GOOD, terms=terms), applied=replace(APPLICATION, observed_address=address))

    assert allowed is isinstance(found, Admit)
    assert allowed or Refuse(Refusal.TOKEN_NETWORK) == found


@pytest.mark.parametrize(
    ("pattern", "hostname", "allowed"),
    [("web-*", "WEB-1", True), ("web-?", "web-12", False), ("", "anything", True), ("*.lab", "a.lab", True)],
)
def test_a_token_may_be_for_certain_hostnames(
    pattern: str,
    hostname: str,
    allowed: bool,  # noqa: FBT001  a column
) -> None:
    """Shell-style, and names have no case."""
    terms = replace(GOOD.terms, hostname_pattern=pattern)
    found = verdict(token=replace(GOOD, terms=terms), applied=replace(APPLICATION, hostname=hostname))

    assert allowed is isinstance(found, Admit)
    assert allowed or Refuse(Refusal.TOKEN_HOSTNAME) == found


def test_a_live_machine_is_refused_under_whatever_name() -> None:
    """A copy that was renamed is still a copy."""
    twin = Collision("a2", live=True, same_address=False, same_machine=True)

    assert Refuse(Refusal.HOST_ALREADY_ENROLLED) == verdict(token=GOOD, collision=twin)


def test_a_host_that_was_installed_anew_waits_with_the_evidence() -> None:
    """The same machine, offline, with a new key: also with an auto-approve token an operator looks."""
    twin = Collision("a2", live=False, same_address=False, same_machine=True)
    found = verdict(token=GOOD, collision=twin)

    assert Admit(GOOD, AgentStatus.PENDING, found.evidence if isinstance(found, Admit) else "") == found
    assert isinstance(found, Admit)
    assert "machine id" in found.evidence


_tokens = st.none() | st.sampled_from([GOOD, EXPIRED, EXHAUSTED, REVOKED])
_cases = st.builds(
    lambda given, proven, leaf, known, token, collision, barred, taken: Case(
        replace(APPLICATION, token="t" * given, key_is_proven=proven, leaf_agent_id=leaf),
        Findings(known, token if given else None, collision, barred, taken),
        NOW,
    ),
    st.booleans(),
    st.booleans(),
    st.none() | st.just("a9"),
    st.none() | st.sampled_from([agent(status) for status in AgentStatus]),
    _tokens,
    st.none() | st.builds(Collision, st.just("a2"), st.booleans(), st.booleans(), st.booleans()),
    st.booleans(),
    st.booleans(),
)


@given(_cases)
def test_every_case_has_an_answer_and_none_gives_more_than_it_should(case: Case) -> None:
    """Whatever comes: no full credentials without proof or a good token, none for a revoked key."""
    found = decide(case.application, case.findings, now=NOW)
    known, token = case.findings.known, case.findings.token
    revoked = (known is not None and known.status is AgentStatus.REVOKED) or case.findings.key_is_barred

    if isinstance(found, Welcome):
        assert case.application.key_is_proven
        assert found.agent.status is AgentStatus.ACTIVE
    if isinstance(found, Admit):
        assert token is not None
        assert token.state(NOW) is TokenState.ACTIVE
    if isinstance(found, Restore):
        assert not case.findings.leaf_agent_is_taken
    assert isinstance(found, Refuse) or not (revoked and case.introduced)


def test_the_table_has_a_row_for_every_rule() -> None:
    """What people read is what decides."""
    lines = table_markdown().splitlines()

    assert len(RULES) + 2 == len(lines)
    assert all(rule.then in line for rule, line in zip(RULES, lines[2:], strict=True))


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

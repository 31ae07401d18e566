"""What a refusal looks like on the wire, and what it does to an existing agent."""

from __future__ import annotations

import grpc
import pytest

from ct_ops_server.edge import refusals
from ct_ops_server.edge.refusals import refuse, refuse_enrolment
from ct_ops_server.enrolment.model import Refusal
from ct_ops_server.enrolment.service import refusal
from ct_ops_server.fleet.model import AgentStatus
from ct_ops_server.fleet.sessions import refusal_reason

WIPES = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}
"""What makes an existing agent give up its identity (rule 10)."""


@pytest.mark.parametrize("reason", sorted(refusals._TABLE))
def test_every_refusal_has_a_sentence_and_carries_its_reason(reason: str) -> None:
    """Operators read the sentence, agents the trailing metadata."""
    answer = refuse(reason)

    assert " " in answer.sentence
    assert (("ct-ops-reason", reason),) == answer.metadata
    assert answer.code is not grpc.StatusCode.OK


@pytest.mark.parametrize("reason", list(Refusal))
def test_every_reason_of_enrolment_has_a_status_and_a_sentence(reason: Refusal) -> None:
    """No reason is left without an answer."""
    answer = refuse_enrolment(refusal(reason))

    assert ("ct-ops-reason", reason.value) == answer.metadata[0]
    assert " " in answer.sentence


@pytest.mark.parametrize(
    "reason",
    [
        "connection_unknown", "server_stopping", "leaf_unknown_authority",
        "superseded", "store_unavailable", "authority_unavailable", "write_refused", "revoked",
    ],
)  # fmt: skip
def test_what_is_our_fault_or_a_revocation_makes_no_existing_agent_wipe_itself(reason: str) -> None:
    """A database that is down must not cost a fleet its identities."""
    assert refuse(reason).code not in WIPES


@pytest.mark.parametrize(
    "reason", ["leaf_expired", "leaf_not_yet_valid", "authority_retired", "authority_expired"]
)
def test_whoever_needs_another_leaf_is_sent_to_register_which_his_key_is_enough_for(reason: str) -> None:
    """An existing agent would else keep a leaf of a time when the server's clock was years ahead, until then."""
    assert refuse(reason).code in WIPES


def test_a_missing_certificate_is_refused_in_the_words_of_existing_servers() -> None:
    """Existing agents and their tests know this sentence."""
    answer = refuse("client_certificate_required")

    assert answer.code is grpc.StatusCode.UNAUTHENTICATED
    assert answer.sentence == "client certificate required for this RPC"


def test_an_unusable_token_is_refused_in_the_words_of_existing_servers() -> None:
    """UNAUTHENTICATED, and the sentence begins as theirs."""
    for reason in (Refusal.TOKEN_UNKNOWN, Refusal.TOKEN_EXPIRED, Refusal.TOKEN_EXHAUSTED):
        answer = refuse_enrolment(refusal(reason))

        assert answer.code is grpc.StatusCode.UNAUTHENTICATED
        assert answer.sentence.startswith("invalid or expired enrolment token")


@pytest.mark.parametrize("status", [None, *AgentStatus])
def test_every_state_of_an_agents_row_has_an_answer(status: AgentStatus | None) -> None:
    """What a session refuses with is always in the table."""
    assert refuse(refusal_reason(status)).sentence


def test_a_time_to_come_back_travels_beside_the_reason() -> None:
    """In milliseconds, for agents that can read it."""
    answer = refuse("store_unavailable", retry_after_ms=1_500)

    assert ("ct-ops-retry-after-ms", "1500") in answer.metadata

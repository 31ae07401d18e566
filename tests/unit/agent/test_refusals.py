"""Each refusal has one reaction and one sentence."""

from datetime import timedelta

import pytest

from ct_ops_agent.errors import (
    AgentError,
    CredentialRejectedError,
    EnrolmentRefusedError,
    Refusal,
    UnreachableError,
)
from ct_ops_agent.refusals import explain, refused_registration, refused_stream


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("UNAUTHENTICATED", "", CredentialRejectedError),
        ("PERMISSION_DENIED", "", CredentialRejectedError),
        ("NOT_FOUND", "", CredentialRejectedError),
        ("FAILED_PRECONDITION", "", EnrolmentRefusedError),
        ("UNAVAILABLE", "", UnreachableError),
        ("INTERNAL", "", UnreachableError),
        ("RESOURCE_EXHAUSTED", "", UnreachableError),
        ("UNIMPLEMENTED", "", UnreachableError),
        ("PERMISSION_DENIED", "revoked", EnrolmentRefusedError),
        ("PERMISSION_DENIED", "quarantined", EnrolmentRefusedError),
        ("FAILED_PRECONDITION", "split_off", EnrolmentRefusedError),
        ("PERMISSION_DENIED", "pending", CredentialRejectedError),
        ("UNAUTHENTICATED", "clock_skew", EnrolmentRefusedError),
        ("UNAVAILABLE", "leaf_expired", CredentialRejectedError),
        ("UNAVAILABLE", "leaf_unknown_authority", CredentialRejectedError),
        ("UNAVAILABLE", "store_unavailable", UnreachableError),
        ("PERMISSION_DENIED", "limit", UnreachableError),
        ("NOT_FOUND", "a reason of next year", CredentialRejectedError),
    ],
)
def test_a_refused_stream_has_one_reaction(status: str, reason: str, expected: type[AgentError]) -> None:
    """The reason decides where there is one, the status where an existing server sends none."""
    assert expected is type(refused_stream(Refusal(status, reason, "")))


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("UNAUTHENTICATED", "", EnrolmentRefusedError),
        ("INVALID_ARGUMENT", "", EnrolmentRefusedError),
        ("ALREADY_EXISTS", "", EnrolmentRefusedError),
        ("PERMISSION_DENIED", "token_expired", EnrolmentRefusedError),
        ("RESOURCE_EXHAUSTED", "limit", UnreachableError),
        ("PERMISSION_DENIED", "limit", UnreachableError),
        ("UNAVAILABLE", "", UnreachableError),
        ("INTERNAL", "", UnreachableError),
    ],
)
def test_a_refused_registration_has_one_reaction(
    status: str, reason: str, expected: type[AgentError]
) -> None:
    """A server that said no is told from one that said later."""
    assert expected is type(refused_registration(Refusal(status, reason, "")))


def test_the_wait_that_the_server_asked_for_is_kept() -> None:
    """`ct-ops-retry-after-ms` reaches whoever waits."""
    refusal = Refusal("RESOURCE_EXHAUSTED", "limit", "", timedelta(seconds=7))

    error = refused_stream(refusal)

    assert isinstance(error, UnreachableError)
    assert timedelta(seconds=7) == error.retry_after


@pytest.mark.parametrize(
    "reason",
    [
        "unknown_agent",
        "pending",
        "revoked",
        "quarantined",
        "token_missing",
        "token_unknown",
        "token_expired",
        "token_exhausted",
        "token_revoked",
        "leaf_expired",
        "leaf_unknown_authority",
        "host_already_enrolled",
        "key_mismatch",
        "clock_skew",
        "limit",
    ],
)
def test_every_known_reason_has_a_sentence(reason: str) -> None:
    """An operator never reads a reason code instead of a sentence."""
    sentence = explain(Refusal("PERMISSION_DENIED", reason, "text of the server"))

    assert reason not in sentence or reason in {"pending", "revoked", "quarantined", "limit"}
    assert "text of the server" not in sentence


def test_a_reason_of_next_year_is_told_in_the_servers_words() -> None:
    """A server that names reasons writes its texts for operators; they are passed on."""
    assert "the disk is full" == explain(Refusal("UNAVAILABLE", "disk_full", "the disk is full"))


def test_a_server_without_reasons_is_quoted() -> None:
    """An existing server's own words are shown, with what helps against a bad token."""
    bad_token = Refusal("UNAUTHENTICATED", "", "invalid or expired enrolment token")
    collision = Refusal("ALREADY_EXISTS", "", "a host with this name exists")

    assert explain(bad_token).startswith(
        "the server refused: invalid or expired enrolment token; create a new one"
    )
    assert "the server refused: invalid token" == explain(Refusal("UNAUTHENTICATED", "", "invalid token"))
    assert "the server refused: a host with this name exists" == explain(collision)
    assert "the server refused: not found" == explain(Refusal("NOT_FOUND", "", ""))


@pytest.mark.parametrize(
    ("skew_s", "says"),
    [(3 * 3600.0, "3.0 h ahead of"), (-90.0, "90 s behind"), (59.0, None), (None, None)],
)
def test_a_clock_that_is_far_off_is_named_whatever_the_reason(skew_s: float | None, says: str | None) -> None:
    """It explains expired tokens and certificates, and nobody thinks of it."""
    sentence = explain(Refusal("UNAUTHENTICATED", "leaf_expired", "", clock_skew_s=skew_s))

    assert (says is None) is ("clock" not in sentence)
    assert says is None or says in sentence


def test_a_refusals_request_id_is_named_so_that_the_server_can_be_asked_about_it() -> None:
    """The server's log has it under the same id; an existing server tells none."""
    sentence = explain(Refusal("UNAVAILABLE", "disk_full", "the disk is full", request_id="5f0c3a9d1b7e4420"))

    assert "the disk is full [request 5f0c3a9d1b7e4420]" == sentence

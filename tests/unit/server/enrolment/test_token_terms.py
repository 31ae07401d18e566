"""What may be said about an enrolment token: everything that can be meant, and nothing else."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.enrolment.admission import hostname_allowed, network_allowed
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.enrolment.token_terms import TokenTermsError, checked_terms
from ct_ops_server.fleet.model import Tag

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def problems(terms: TokenTerms, *, uses: int = 0) -> tuple[str, ...]:
    with pytest.raises(TokenTermsError) as refused:
        checked_terms(terms, now=NOW, uses=uses)
    return refused.value.problems


def test_sensible_terms_come_back_in_one_form() -> None:
    """Networks canonical and each once, pattern and label without the spaces around them."""
    said = TokenTerms(
        " web ",
        networks=("192.0.2.0/24", "192.0.2.0/255.255.255.0", "2001:DB8::/32", " 198.51.100.7"),
        hostname_pattern=" web-* ",
    )
    checked = checked_terms(said, now=NOW)

    assert ("web", "web-*") == (checked.label, checked.hostname_pattern)
    assert ("192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32") == checked.networks
    assert checked == checked_terms(checked, now=NOW)


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        (TokenTerms(""), "say what the token is for"),
        (TokenTerms("  "), "say what the token is for"),
        (TokenTerms("x" * 101), "at most 100 characters"),
        (TokenTerms("a\x1b[31mb"), "printable characters only"),
        (TokenTerms("x", max_uses=0), "from 1 to 1000000"),
        (TokenTerms("x", max_uses=1_000_001), "from 1 to 1000000"),
        (TokenTerms("x", expires_at=NOW), "is past"),
        (TokenTerms("x", networks=("everywhere",)), "'everywhere' is no network; write it like 192.0.2.0/24"),
        (TokenTerms("x", networks=("",)), "is no network"),
        (
            TokenTerms("x", networks=("10.1.2.3/16",)),
            "write 10.1.0.0/16 for that network, or 10.1.2.3 for that",
        ),
        (TokenTerms("x", networks=tuple(f"192.0.2.{n}" for n in range(65))), "at most 64"),
        (TokenTerms("x", hostname_pattern="web-*, db-*"), "can match no hostname"),
        (TokenTerms("x", hostname_pattern="web-[0-9"), "has a [ without its ]"),
        (TokenTerms("x", hostname_pattern="w" * 256), "at most 255 characters"),
        (TokenTerms("x", tags=(Tag("", "a"),)), "needs a key"),
        (TokenTerms("x", tags=(Tag("a", "\x00"),)), "printable characters only"),
        (TokenTerms("x", tags=(Tag("a", "b" * 501),)), "or its value 500"),
        (TokenTerms("x", tags=tuple(Tag(str(n), "") for n in range(65))), "at most 64"),
    ],
)
def test_what_cannot_be_meant_is_told_in_a_sentence(terms: TokenTerms, problem: str) -> None:
    """One sentence, that names the term."""
    (told,) = problems(terms)

    assert problem in told


def test_all_problems_are_told_at_once() -> None:
    """Nobody wants to be told one a time."""
    terms = TokenTerms("", max_uses=0, expires_at=NOW, networks=("a", "b"), hostname_pattern="a b")

    assert ["label", "expires", "max uses", "network", "network", "hostname"] == [
        problem.partition(":")[0] for problem in problems(terms)
    ]


def test_a_token_that_was_used_more_often_than_it_may_be_is_no_token() -> None:
    """What was redeemed elsewhere counts; as often as it may be is exhausted, which can be meant."""
    assert ("max uses: 2 is less than the 3 uses that it has already",) == problems(
        TokenTerms("x", max_uses=2), uses=3
    )
    assert ("uses: cannot be less than 0",) == problems(TokenTerms("x"), uses=-1)
    assert 3 == checked_terms(TokenTerms("x", max_uses=3), now=NOW, uses=3).max_uses


def test_the_very_next_moment_is_an_end() -> None:
    """A token for a second is a token."""
    ends = NOW + timedelta(microseconds=1)

    assert ends == checked_terms(TokenTerms("x", expires_at=ends), now=NOW).expires_at


@given(st.text(max_size=30), st.text(max_size=30), st.ip_addresses(), st.from_regex(r"[a-zA-Z0-9.-]{1,20}"))
def test_what_is_accepted_can_be_asked_about(network: str, pattern: str, address: object, name: str) -> None:
    """Whatever was typed: accepted terms never make the admission of a host fail."""
    try:
        terms = checked_terms(TokenTerms("x", networks=(network,), hostname_pattern=pattern), now=NOW)
    except TokenTermsError:
        return

    assert network_allowed(terms, str(address)) in {True, False}
    assert hostname_allowed(terms, name) in {True, False}


@given(st.ip_addresses(), st.integers(0, 32))
def test_a_network_lets_in_exactly_its_own(address: object, prefix: int) -> None:
    """In the form that was typed and in the form that is kept."""
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    terms = checked_terms(TokenTerms("x", networks=(str(network),)), now=NOW)

    assert network_allowed(terms, str(network[0]))
    assert network_allowed(terms, str(network[-1]))
    assert not network_allowed(terms, "192.0.2.1" if network.version == 6 else "2001:db8::1")

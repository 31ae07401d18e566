"""Whatever looks like a token of ours does not get into a log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ct_ops_proto.enrolment_token import ServerHint, format_token, make_secret
from ct_ops_proto.log_masking import mask

AGENT_TOKEN = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32), st.text(max_size=50))
def test_no_enrolment_token_passes_wherever_it_stands(random: bytes, pin: bytes, around: str) -> None:
    """Every token that the server makes, with its hint, in any sentence."""
    token = format_token(make_secret(random), ServerHint(pin, ("ingest.example.com:9443",)))
    masked = mask(f"{around}{token} {around}")

    assert not any(part in masked for part in token.split("."))
    assert "<hidden>" in masked


def test_an_agent_token_is_masked() -> None:
    """The JWT that a server issued is a secret as well."""
    assert "bearer <hidden>!" == mask(f"bearer {AGENT_TOKEN}!")


def test_ordinary_words_stay() -> None:
    """Only what looks like one of our tokens is replaced."""
    assert "tok_ token_expired tok_short" == mask("tok_ token_expired tok_short")

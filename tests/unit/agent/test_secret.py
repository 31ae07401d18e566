"""Secrets are not shown by accident."""

from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.secret import Secret
from ct_ops_proto.enrolment_token import parse_token

HIDDEN = "tok_" + "a" * 32


def test_nothing_but_reveal_shows_a_secret() -> None:
    """Neither str, repr nor formatting gives the text away."""
    secret = Secret(HIDDEN)

    assert HIDDEN not in f"{secret} {secret!r} {[secret]}"
    assert HIDDEN == secret.reveal()


def test_values_that_hold_secrets_hide_them_too() -> None:
    """A key pair and an enrolment token can be logged without harm."""
    keys = KeyPair(b"S" * 32, b"P" * 32)

    assert "SSSS" not in repr(keys)
    assert HIDDEN not in repr(parse_token(HIDDEN))

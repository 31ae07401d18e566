"""What a support bundle must never show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_agent.support.masking import Masking, secrets_of
from ct_ops_agent.support.settings import masked_settings, secrets_in

TOKEN = "tok_" + "a" * 32 + ".hint-of-it"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhYmMifQ.c2lnbmF0dXJl"
KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAA\nAAAAAAAA\n-----END PRIVATE KEY-----\n"


def test_what_is_known_to_be_secret_is_hidden_wherever_it_stands(tmp_path: Path) -> None:
    """Also a line of a key by itself, as a log might quote it."""
    (tmp_path / "agent_key.pem").write_text(KEY)
    (tmp_path / "agent_state.json").write_text(
        json.dumps({"agent_id": "abc", "jwt_token": "opaque-agent-token"})
    )
    gate = Masking(secrets_of(tmp_path, ["opaque-secret"]))

    for secret in ("MC4CAQAwBQYDK2VwBCIEIAAA", "opaque-agent-token", "opaque-secret"):
        assert "a <hidden> b" == gate.mask(f"a {secret} b")
    assert "abc" == gate.mask("abc")


@pytest.mark.parametrize("secret", [TOKEN, JWT, KEY, KEY[:60]])
def test_what_looks_like_a_secret_is_hidden_although_nobody_knows_it(secret: str) -> None:
    """A token of another host in a log, a key cut off in the middle."""
    shown = Masking().mask(f"before {secret}")

    assert "before <hidden>" == shown.strip()


def test_a_password_in_a_url_is_hidden() -> None:
    """As a proxy's address carries it."""
    assert "http://user:<hidden>@proxy:3128/" == Masking().mask("http://user:hunter2@proxy:3128/")


@pytest.mark.parametrize(
    "said", ["password=hunter2", "db_password: hunter2", "API-KEY = hunter2", "my_secret=hunter2"]
)
def test_in_a_log_what_follows_the_name_of_a_secret_is_hidden(said: str) -> None:
    """A check or a program may print what it was told."""
    assert "hunter2" not in Masking().mask_log(f"it said {said}, and failed")


def test_short_words_are_no_secrets() -> None:
    """Hiding every `a` would hide everything."""
    assert "a and b" == Masking(["a", "", "and"]).mask("a and b")


CONFIGURATION = f"""\
# the old one was {TOKEN}
[ingest]
address = "ingest.example.com:9443"
[agent]
enrolment_token = "{TOKEN}"
[[collectors.exec]]
name = "backup"
command = ["/usr/bin/backup", "--password", "hunter22"]
env = {{ DB = "hunter33" }}
api_key = "hunter44"
"""


def test_a_configuration_is_shown_without_comments_and_secrets() -> None:
    """What helps stays: where, which program, that there is a value."""
    shown = masked_settings(CONFIGURATION)

    assert "hunter" not in shown + TOKEN.replace(TOKEN, "")
    assert TOKEN not in shown
    assert "ingest.example.com:9443" in shown
    assert ["/usr/bin/backup", "<hidden>", "<hidden>"] == tomli.loads(shown)["collectors"]["exec"][0][
        "command"
    ]


def test_what_is_masked_in_the_configuration_is_masked_in_the_log_too() -> None:
    """The agent may quote it."""
    gate = Masking(secrets_in(CONFIGURATION))

    assert "<hidden> <hidden> <hidden>" == gate.mask("hunter22 hunter33 hunter44")


def test_a_configuration_that_is_no_toml_is_left_out() -> None:
    """Nobody can tell what is secret in it."""
    shown = masked_settings(f"enrolment_token = = {TOKEN}")

    assert TOKEN not in shown
    assert "not valid TOML" in shown


@given(st.lists(st.text(min_size=6, max_size=20), min_size=1, max_size=4), st.text(max_size=30))
def test_no_known_secret_survives_whatever_is_around_it(secrets: list[str], around: str) -> None:
    """Also one that holds another."""
    shown = Masking(secrets).mask(around.join(["", *secrets, ""]))

    assert not [secret for secret in secrets if secret in shown.replace("<hidden>", "\x00" * 9)]

"""What an installation makes of a configuration: nothing of an operator's is lost, nothing hostile gets in."""

from __future__ import annotations

from typing import Any

import pytest
import tomli
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_ops_agent.errors import ConfigError
from ct_ops_agent.service.merging import Demands, merge

TOKEN = "tok_" + "a" * 32

OPERATORS = """\
# Owned by the web team. Ask before changing.
[ingest]
address = "old.example.com:9443"   # moved in March
tls_skip_verify = true

[agent]
org_token = "opaque-secret"
tags = [
  "env:prod",  # not staging!
  "site:lab",
]

[collectors.processes]
top = 5
"""


def test_every_comment_and_line_of_an_operator_stays() -> None:
    """Also beside a key that is changed."""
    merged = merge(OPERATORS, None, Demands(address="new.example.com:9443"))

    assert "# Owned by the web team. Ask before changing.\n[ingest]\n" in merged.text
    assert 'address = "new.example.com:9443"   # moved in March' in merged.text
    assert '"env:prod",  # not staging!' in merged.text
    assert ("ingest.address = 'new.example.com:9443'",) == merged.changes


def test_the_token_leaves_the_file_and_is_handed_back() -> None:
    """It belongs into the credential store, whatever name it had."""
    merged = merge(OPERATORS, None, Demands())

    assert "opaque-secret" == merged.token.reveal()
    assert "opaque-secret" not in merged.text + repr(merged)
    assert "org_token" not in merged.text


def test_a_token_in_a_comment_is_told() -> None:
    """Nobody but a human knows what else the comment says."""
    assert merge(f"# was {TOKEN}\n", None, Demands()).token_in_comment


def test_an_offer_fills_in_and_overrules_nothing() -> None:
    """A host must not change its server because an archive was unpacked on it."""
    offered = '[ingest]\naddress = "offered:1"\nca_cert_file = "./ca.crt"\n[collectors.processes]\ninterval = "5m"\n'
    merged = merge(OPERATORS, offered, Demands())
    document = tomli.loads(merged.text)

    assert {
        "address": "old.example.com:9443",
        "tls_skip_verify": True,
        "ca_cert_file": "./ca.crt",
    } == document["ingest"]
    assert {"top": 5, "interval": "5m"} == document["collectors"]["processes"]
    assert ("ingest.address",) == merged.not_taken


def test_an_offer_for_a_host_without_configuration_is_taken_with_its_comments() -> None:
    """And without its token."""
    merged = merge(None, f'# For the lab.\n[agent]\nenrolment_token = "{TOKEN}"\ntags = ["a:b"]\n', Demands())

    assert "# For the lab." in merged.text
    assert TOKEN == merged.token.reveal()
    assert {"agent": {"tags": ["a:b"]}} == tomli.loads(merged.text)


def test_what_is_empty_counts_as_not_there() -> None:
    """As everywhere in the configuration."""
    merged = merge('[ingest]\naddress = ""\n', '[ingest]\naddress = "offered:1"\n', Demands())

    assert "offered:1" == tomli.loads(merged.text)["ingest"]["address"]


def test_an_unsafe_setting_can_be_taken_back() -> None:
    """An installer that can only add would leave it for ever."""
    merged = merge(OPERATORS, None, Demands(tls_skip_verify=False))

    assert tomli.loads(merged.text)["ingest"]["tls_skip_verify"] is False


def test_tags_are_added_replaced_by_key_and_cleared() -> None:
    """`k=v` is how installers of existing agents write them."""
    added = merge(OPERATORS, None, Demands(tags=("env=test", "rack:7")))
    cleared = merge(OPERATORS, None, Demands(tags=("rack:7",), without_tags=True))

    assert ["env:test", "site:lab", "rack:7"] == tomli.loads(added.text)["agent"]["tags"]
    assert ["rack:7"] == tomli.loads(cleared.text)["agent"]["tags"]


def test_merging_again_changes_nothing() -> None:
    """A second installation with the same words writes the same bytes."""
    demands = Demands(address="new:1", tags=("rack:7",))
    once = merge(OPERATORS, None, demands)
    twice = merge(once.text, None, demands)

    assert (once.text, ()) == (twice.text, twice.changes)


def test_line_ends_of_windows_stay() -> None:
    """Whatever editor the operator has."""
    merged = merge('[agent]\r\nhostname = "a"\r\n', None, Demands(tags=("a:b",)))

    assert 'hostname = "a"\r\n' in merged.text


def test_what_is_no_toml_is_refused_with_its_place() -> None:
    """And nothing is written over it."""
    with pytest.raises(ConfigError, match=r"not valid TOML.*line 1"):
        merge("this is = = not", None, Demands())


def test_a_token_in_an_inline_table_is_taken_out_too() -> None:
    """However the operator wrote it."""
    merged = merge(f'agent = {{ org_token = "{TOKEN}", hostname = "a" }}\n', None, Demands())

    assert TOKEN == merged.token.reveal()
    assert {"agent": {"hostname": "a"}} == tomli.loads(merged.text)


hostile = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40) | st.sampled_from(
    [
        '"',
        "'''",
        '"""',
        "\\",
        "$(reboot)",
        "`id`",
        "]\n[agent]\nx = 1",
        "a\r\nb",
        "#",
        "\x1b[2J",
        "=",
        "{}",
        "%s",
    ]
)
scalars = hostile | st.integers(-(2**62), 2**62) | st.booleans()
values = scalars | st.lists(hostile, max_size=3)
names = st.sampled_from(["address", "ca_cert_file", "tags", "hostname", "x.y", 'q"uote', "spa ce", "ü"])
tables = st.dictionaries(names, values, max_size=4)
documents = st.fixed_dictionaries(
    {}, optional={"ingest": tables, "agent": tables, "collectors": st.dictionaries(names, tables, max_size=2)}
)


@settings(max_examples=40, deadline=None)
@given(there=documents, offered=documents, address=hostile, ca_cert_file=hostile)
def test_hostile_values_stay_values(
    there: dict[str, Any], offered: dict[str, Any], address: str, ca_cert_file: str
) -> None:
    """Whatever a value is, it comes out as it went in, and nothing else changes."""
    demands = Demands(address=address, ca_cert_file=ca_cert_file)
    text = f"# first\n{tomlkit.dumps(there)}# last\n"
    document = tomli.loads(merge(text, tomlkit.dumps(offered), demands).text)

    assert (address, ca_cert_file) == (document["ingest"]["address"], document["ingest"]["ca_cert_file"])
    for section, table in there.items():
        for name, value in table.items():
            if (section, name) not in {("ingest", "address"), ("ingest", "ca_cert_file")} and value not in (
                "",
                [],
            ):
                _assert_kept(value, document[section][name])


@settings(max_examples=40, deadline=None)
@given(there=documents, token=hostile.filter(str.strip))
def test_a_token_never_stays_in_the_text_as_a_value(there: dict[str, Any], token: str) -> None:
    """Whatever else the file holds."""
    document = {**there, "agent": {**there.get("agent", {}), "enrolment_token": token}}
    merged = merge(tomlkit.dumps(document), None, Demands())

    assert token.strip() == merged.token.reveal()
    assert "enrolment_token" not in tomli.loads(merged.text).get("agent", {})


def _assert_kept(before: Any, after: Any) -> None:
    if isinstance(before, dict):
        for name, value in before.items():
            if value not in ("", []):
                _assert_kept(value, after[name])
    else:
        assert before == after

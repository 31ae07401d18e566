"""From what a server sent to something that can be run, or a sentence."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_ops_agent.checks.kinds import LONGEST_TIMEOUT_S, UnusableCheckError, prepare
from ct_ops_agent.work import CheckDefinition, CheckStatus
from ct_ops_proto.checks import CHECK_TYPES

CONFIGS = {
    "port": {"host": "web", "port": 80},
    "process": {"process_name": "sshd"},
    "http": {"url": "http://web/"},
    "certificate": {"host": "web"},
    "cert_file": {"file_path": "/etc/ssl/web.pem"},
}


def definition(check_type: str, config: object, timeout_s: float = 0.0) -> CheckDefinition:
    text = config if isinstance(config, str) else json.dumps(config)
    return CheckDefinition("c1", check_type, text, 60.0, timeout_s)


def test_every_type_that_can_be_defined_can_be_done() -> None:
    """The table of types is shared with the server."""
    assert set(CONFIGS) == set(CHECK_TYPES)
    for check_type, config in CONFIGS.items():
        assert prepare(definition(check_type, config)).timeout_s > 0


@pytest.mark.parametrize(
    ("check_type", "said"),
    [
        ("service_account", "'service_account' are not supported by this agent; remove the check"),
        ("ssh_key_scan", "'ssh_key_scan' are not supported by this agent; remove the check"),
        ("ping", "'ping' are not supported by this agent; it knows port, process, http, certificate, cert_file"),
        ("", "'' are not supported"),
        ("x" * 10_000, "not supported"),
    ],
)  # fmt: skip
def test_another_type_is_named_and_refused(check_type: str, said: str) -> None:
    """Those of existing agents that are inventories too."""
    with pytest.raises(UnusableCheckError) as refused:
        prepare(definition(check_type, {}))

    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("check_type", "config", "key"),
    [
        ("port", {"host": "web"}, "port: "),
        ("port", {"host": "web", "port": 70_000}, "port: "),
        ("http", {"url": "ftp://web/"}, "url: "),
        ("cert_file", {"file_path": "relative.pem"}, "file_path: "),
        ("certificate", {"host": "web", "starttls": "gopher"}, "starttls: "),
        ("port", "", "host: "),
        ("port", "{", "no JSON"),
    ],
)
def test_a_configuration_that_cannot_work_names_the_key(check_type: str, config: object, key: str) -> None:
    """For whoever defined the check."""
    with pytest.raises(UnusableCheckError, match="cannot work") as refused:
        prepare(definition(check_type, config))

    assert key in str(refused.value)


def test_spellings_of_existing_servers_are_read() -> None:
    """What they saved as ``filePath`` existing agents look for as ``file_path``: always an error there."""
    prepare(definition("cert_file", {"filePath": "/etc/ssl/web.pem"}))
    prepared = prepare(definition("certificate", {"host": "web", "serverName": "w", "timeoutSeconds": 3}))

    assert 3 == prepared.timeout_s


def test_a_key_of_a_newer_server_is_passed_over() -> None:
    """The check is still worth having."""
    prepare(definition("port", {"host": "web", "port": 80, "colour": "red"}))


@pytest.mark.parametrize(
    ("check_type", "asked", "seconds"),
    [
        ("port", 0.0, 5.0),
        ("port", 2.5, 2.5),
        ("certificate", 0.0, 10.0),
        ("http", 86_400.0, LONGEST_TIMEOUT_S),
        ("http", -1.0, 10.0),
        ("http", math.inf, LONGEST_TIMEOUT_S),
    ],
)
def test_a_check_has_a_timeout_of_its_own(check_type: str, asked: float, seconds: float) -> None:
    """That of the check, else of its configuration, else of its type; and always one."""
    assert seconds == prepare(definition(check_type, CONFIGS[check_type], asked)).timeout_s


def test_no_answer_is_a_fail_where_an_answer_was_looked_for() -> None:
    """Of a certificate that was not seen nothing is known."""
    verdicts = {
        check_type: prepare(definition(check_type, config)).overdue for check_type, config in CONFIGS.items()
    }

    assert {
        "port": CheckStatus.FAIL,
        "http": CheckStatus.FAIL,
        "process": CheckStatus.ERROR,
        "certificate": CheckStatus.ERROR,
        "cert_file": CheckStatus.ERROR,
    } == {check_type: verdict.status for check_type, verdict in verdicts.items()}
    assert "no answer within 5 s" == verdicts["port"].output


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "host",
        "port",
        "url",
        "headers",
        "process_name",
        "file_path",
        "filePath",
        "password",
        "timeoutSeconds",
        "ca_pem",
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    check_type=st.sampled_from([*CHECK_TYPES, "service_account", "💥"]),
    config=st.one_of(
        st.text(),
        st.binary().map(lambda data: data.decode("latin-1")),
        JSON.map(json.dumps),
        st.dictionaries(KEYS, JSON, max_size=6).map(json.dumps),
    ),
    timeout_s=st.floats(),
)
def test_whatever_a_server_sends_is_prepared_or_refused_in_a_sentence(
    check_type: str, config: str, timeout_s: float
) -> None:
    """Never anything else: an exception of another kind would be a defect that is reported as one."""
    said, seconds = "", 1.0
    try:
        seconds = prepare(definition(check_type, config, timeout_s)).timeout_s
    except UnusableCheckError as error:
        said = str(error) or "nothing"

    assert "nothing" != said
    assert 0 < seconds <= LONGEST_TIMEOUT_S


def test_a_deeply_nested_configuration_is_refused() -> None:
    """Not a crash of the parser."""
    with pytest.raises(UnusableCheckError):
        prepare(definition("port", "[" * 60_000))

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_proto.check_document import check_types_markdown
from ct_ops_proto.checks import (
    CHECK_TYPES,
    MASK,
    CertFileCheck,
    CertificateCheck,
    CheckConfig,
    CheckConfigError,
    HttpCheck,
    PortCheck,
    ProcessCheck,
    check_config,
    config_json,
    ignored_by_existing_agents,
    keys_of,
    masked,
    parse_check_config,
)

_VALID: dict[str, dict[str, Any]] = {
    "port": {"host": "::1", "port": 22},
    "process": {"process_name": "sshd"},
    "http": {"url": "https://example.test/health"},
    "certificate": {"host": "example.test"},
    "cert_file": {"file_path": "/etc/ssl/a.p12", "format": "pkcs12", "password": "hunter2"},
}
_words = st.text(max_size=20)
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=6,
)


def _problems(check_type: str, values: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(CheckConfigError) as refused:
        check_config(check_type, values)
    return {problem.key: problem.text for problem in refused.value.problems}


@pytest.mark.parametrize("check_type", CHECK_TYPES)
def test_what_is_stored_reads_back_as_the_same(check_type: str) -> None:
    config = check_config(check_type, _VALID[check_type])

    assert config == parse_check_config(check_type, config_json(config))
    assert config_json(config) == config_json(parse_check_config(check_type, config_json(config)))


def test_every_type_has_a_default_timeout_and_describes_every_key() -> None:
    for check_type, struct in CHECK_TYPES.items():
        assert struct.default_timeout_s > 0
        assert struct.__doc__
        assert all(key.description for key in keys_of(check_type).values())


def test_all_problems_are_named_at_once_by_key() -> None:
    problems = _problems("http", {"url": "ftp://x", "method": "get", "expected_status": 7, "headrs": {}})

    assert set(problems) == {"url", "method", "expected_status", "headrs"}
    assert "did you mean headers?" in problems["headrs"]
    assert problems["method"] == "must be one of: GET, HEAD, POST, PUT, OPTIONS"


def test_a_missing_key_says_what_it_is_for() -> None:
    assert {"host", "port"} == set(_problems("port", {}))
    assert "TCP port" in _problems("port", {"host": "a"})["port"]


def test_an_unknown_type_is_guessed() -> None:
    assert "did you mean process?" in _problems("proces", {})["type"]


def test_the_spellings_that_existing_servers_stored_are_read_and_never_written() -> None:
    """A key store saved with ``filePath`` was always an error on the host: the agent reads ``file_path``."""
    old = {"filePath": "/etc/ssl/a.pem"}
    older_still = {"host": "a", "port": 1, "serverName": "b", "timeoutSeconds": 5}

    assert CertFileCheck(file_path="/etc/ssl/a.pem") == check_config("cert_file", old)
    assert CertificateCheck(host="a", port=1, server_name="b", timeout_seconds=5) == check_config(
        "certificate", older_still
    )
    assert "file_path" in config_json(check_config("cert_file", old))
    assert ProcessCheck(process_name="cron") == check_config("process", {"processName": "cron"})


def test_a_key_that_is_given_in_both_spellings_is_refused() -> None:
    assert "twice" in _problems("process", {"process_name": "a", "processName": "b"})["process_name"]


def test_text_of_a_command_line_counts_as_the_number_it_spells() -> None:
    assert PortCheck(host="h", port=22) == check_config("port", {"host": "h", "port": "22"})


def test_an_agent_may_pass_over_keys_of_a_newer_server() -> None:
    text = '{"host": "h", "port": 22, "since": "later"}'

    assert PortCheck(host="h", port=22) == parse_check_config("port", text, ignore_unknown=True)
    with pytest.raises(CheckConfigError):
        parse_check_config("port", text)


def test_secrets_are_neither_in_repr_nor_in_what_is_shown_nor_in_errors() -> None:
    store = check_config("cert_file", _VALID["cert_file"])
    request = check_config("http", {"url": "https://h/", "headers": {"Authorization": "Bearer hunter2"}})

    assert "hunter2" not in repr(store) + repr(request) + json.dumps([masked(store), masked(request)])
    assert {"Authorization": MASK} == masked(request)["headers"]
    assert "hunter2" not in str(_problems("cert_file", {"file_path": "/x", "format": "hunter2"}))
    assert "hunter2" not in str(_problems("cert_file", {"file_path": "/x", "password": ["hunter2"]}))
    assert "hunter2" not in str(_problems("http", {"url": "https://u:hunter2@h/"}))
    assert "hunter2" in config_json(store)


def test_a_terminal_escape_in_a_configuration_is_refused() -> None:
    escape = "\x1b[2J"

    assert "control character" in _problems("port", {"host": escape, "port": 1})["host"]
    assert "\x1b" not in str(_problems("port", {"host": "h", "port": 1, escape: 1}))
    assert _problems("http", {"url": "https://h/", "headers": {"A": "b\r\nC: d"}}).keys() == {"headers.A"}


def test_header_names_that_are_none_and_too_many_headers_are_refused() -> None:
    assert "headers.A b" in _problems("http", {"url": "http://h", "headers": {"A b": "c"}})
    many = {f"X-{number}": "1" for number in range(33)}
    assert "more than 32" in _problems("http", {"url": "http://h", "headers": many})["headers"]


def test_keys_that_contradict_each_other_are_refused() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"

    assert HttpCheck(url="https://h/", ca_pem=pem) == check_config(
        "http", {"url": "https://h/", "ca_pem": pem}
    )
    assert "ca_pem" in _problems("http", {"url": "https://h/", "ca_pem": pem, "ca_file": "/ca"})
    assert "ca_pem" in _problems("http", {"url": "https://h/", "ca_pem": "nonsense"})
    assert "ca_file" in _problems("http", {"url": "https://h/", "ca_file": "relative.pem"})
    assert "file_path" in _problems("cert_file", {"file_path": "relative.pem"})
    assert "password" in _problems("cert_file", {"file_path": "/a.pem", "password": "x"})


def test_addresses_that_are_none_are_refused() -> None:
    for url in ("example.test", "http://", "http://h:99999/", "http://[::1/", "http://h/a b"):
        assert {"url"} == set(_problems("http", {"url": url}))


@pytest.mark.parametrize("text", ["[1]", "{", "", '{"a": ' + "[" * 60_000, '"x"', "\ud800", "null"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(CheckConfigError):
        parse_check_config("port", text)


def test_a_configuration_of_ten_megabytes_is_refused_before_it_is_read() -> None:
    with pytest.raises(CheckConfigError, match="longer than"):
        parse_check_config("port", '{"host": "' + "a" * 10_000_000 + '"}')


def test_keys_of_ours_are_left_out_until_they_are_used() -> None:
    """An older agent, or an existing one, is not told what it does not know without need."""
    plain = check_config("certificate", {"host": "h"})
    modern = check_config("certificate", {"host": "h", "starttls": "smtp", "min_days_left": 14})

    assert {"host": "h", "port": 443, "server_name": "", "timeout_seconds": 10} == json.loads(
        config_json(plain)
    )
    assert () == ignored_by_existing_agents(plain)
    assert ("starttls", "min_days_left") == ignored_by_existing_agents(modern)


def _outcome(read: Callable[[], CheckConfig]) -> CheckConfig | CheckConfigError:
    try:
        return read()
    except CheckConfigError as refused:
        return refused


def _reads_back(check_type: str, outcome: CheckConfig | CheckConfigError) -> bool:
    return isinstance(outcome, CheckConfigError) or outcome == parse_check_config(
        check_type, config_json(outcome)
    )


@given(st.sampled_from(sorted(CHECK_TYPES)), st.dictionaries(_words, _anything, max_size=4))
def test_whatever_is_added_to_a_valid_configuration_is_refused_or_reads_back(
    check_type: str, added: dict[str, Any]
) -> None:
    outcome = _outcome(lambda: check_config(check_type, _VALID[check_type] | added))

    assert _reads_back(check_type, outcome)
    assert str(outcome).isprintable()


@given(st.data(), st.sampled_from(sorted(CHECK_TYPES)))
def test_whatever_a_key_is_set_to_is_refused_under_its_name_or_reads_back(
    data: st.DataObject, check_type: str
) -> None:
    key, value = data.draw(st.sampled_from(sorted(keys_of(check_type)))), data.draw(_anything)
    outcome = _outcome(lambda: check_config(check_type, _VALID[check_type] | {key: value}))
    problems = outcome.problems if isinstance(outcome, CheckConfigError) else ()
    named = {problem.key.partition(".")[0] for problem in problems}

    assert _reads_back(check_type, outcome)
    assert named <= set(keys_of(check_type))
    assert str(outcome).isprintable()


@given(st.sampled_from(sorted(CHECK_TYPES)), st.text(max_size=200))
def test_any_text_is_a_configuration_or_refused(check_type: str, text: str) -> None:
    assert _reads_back(check_type, _outcome(lambda: parse_check_config(check_type, text)))


def test_the_documentation_has_every_type_and_key() -> None:
    page = check_types_markdown()

    assert all(f"### `{check_type}`" in page for check_type in CHECK_TYPES)
    assert all(f"| `{name}`" in page for check_type in CHECK_TYPES for name in keys_of(check_type))

"""Each kind of value: what is read, and what is said about the rest."""

from datetime import timedelta
from pathlib import Path

import pytest

from ct_ops_agent.config import parse
from ct_ops_agent.control_plane import Tag
from ct_ops_proto.enrolment_token import ServerHint, format_token, make_secret

SECRET = make_secret(bytes(20))
TOKEN = format_token(SECRET, ServerHint(bytes(32), ("ingest.example.com:9443",)))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("ingest.example.com:9443", "ingest.example.com:9443"),
        (" ingest.example.com ", "ingest.example.com:9443"),
        ("192.0.2.1:443", "192.0.2.1:443"),
        ("[2001:db8::1]:9443", "[2001:db8::1]:9443"),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_port(raw: str, expected: str) -> None:
    """The port has a default, spaces around do not matter."""
    assert expected == parse.parse_address(raw)


@pytest.mark.parametrize(
    "raw", ["https://ingest", "a b:1", "host:0", "host:65536", "host:port", "2001:db8::1", 9443]
)
def test_what_is_no_address_is_explained(raw: object) -> None:
    """The sentence says what to write instead."""
    with pytest.raises(ValueError, match="write"):
        parse.parse_address(raw)


@pytest.mark.parametrize(("raw", "expected"), [(1, 1), (3600, 3600), ("30", 30), (" 45 ", 45)])
def test_an_interval_is_whole_seconds(raw: object, expected: int) -> None:
    """A number in the file, text in the environment."""
    assert timedelta(seconds=expected) == parse.parse_interval(raw)


@pytest.mark.parametrize("raw", [0, -1, 3601, True, 1.5, "soon", "", None])
def test_an_interval_that_would_stop_or_flood_is_refused(raw: object) -> None:
    """Zero crashed existing agents; an hour is the most."""
    with pytest.raises(ValueError, match="whole seconds from 1 to 3600"):
        parse.parse_interval(raw)


@pytest.mark.parametrize(
    ("raw", "expected"), [(True, True), ("true", True), ("1", True), ("NO", False), (False, False)]
)
def test_a_boolean_has_usual_spellings(raw: object, expected: object) -> None:
    """As TOML has it, and as people write it in an environment."""
    assert expected is parse.parse_boolean(raw)


@pytest.mark.parametrize("raw", ["maybe", 1, None])
def test_what_is_neither_true_nor_false_is_explained(raw: object) -> None:
    """No guess is made about a security switch."""
    with pytest.raises(ValueError, match="write true or false"):
        parse.parse_boolean(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (["env:prod", "site:lab"], (Tag("env", "prod"), Tag("site", "lab"))),
        ("env:prod, site:lab,", (Tag("env", "prod"), Tag("site", "lab"))),
        (("env=prod",), (Tag("env", "prod"),)),
        (["url:http://x=y"], (Tag("url", "http://x=y"),)),
        ([], ()),
    ],
)
def test_tags_are_keys_with_values(raw: object, expected: tuple[Tag, ...]) -> None:
    """A list in the file, commas in the environment, k=v as existing installers write it."""
    assert expected == parse.parse_tags(raw)


@pytest.mark.parametrize("raw", [["env"], [":prod"], [7], {"env": "prod"}, 7])
def test_what_is_no_tag_is_explained(raw: object) -> None:
    """The sentence shows a good one."""
    with pytest.raises(ValueError, match="env:prod"):
        parse.parse_tags(raw)


@pytest.mark.parametrize("raw", ["a b", "x" * 254, "a\tb", 5])
def test_what_is_no_host_name_is_explained(raw: object) -> None:
    """No spaces, no control characters, not longer than DNS allows."""
    with pytest.raises(ValueError, match="write"):
        parse.parse_hostname(raw)


def test_tokens_of_both_kinds_are_read() -> None:
    """Ours with its hint, and an existing server's as it is."""
    assert (SECRET, True) == (parse.parse_enrolment_token(f" {TOKEN}\n").secret, True)
    assert "cm4opaque" == parse.parse_enrolment_token("cm4opaque").secret


@pytest.mark.parametrize("raw", [TOKEN[:-1], TOKEN[:-20], "x" * 1025, "with space\x00", "tökén", 7])
def test_a_damaged_token_is_refused_without_being_shown(raw: object) -> None:
    """Cut off or mistyped: the operator is told to copy it again, and no log holds it."""
    with pytest.raises(ValueError, match=r"copy|quotes") as refused:
        parse.parse_enrolment_token(raw)

    assert SECRET not in str(refused.value)


def test_a_token_with_an_address_that_cannot_be_dialled_is_refused() -> None:
    """Attack: a well-made hint that holds a port that does not exist."""
    token = format_token(SECRET, ServerHint(bytes(32), ("host:99999",)))

    with pytest.raises(ValueError, match="99999 is no port"):
        parse.parse_enrolment_token(token)


def test_paths_are_trimmed() -> None:
    """Spaces around a path come from copying."""
    assert Path("/etc/ca.crt") == parse.parse_path(" /etc/ca.crt ")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(8 * 1024**2, 8 * 1024**2), ("64 MiB", 64 * 1024**2), ("1GiB", 1024**3), (" 67108864 ", 64 * 1024**2)],
)
def test_a_size_is_bytes_or_has_a_unit(raw: object, expected: int) -> None:
    """Units of 1024, as everywhere here."""
    assert expected == parse.parse_size(raw)


@pytest.mark.parametrize("raw", [0, "7 MiB", "65 GiB", True, 1.5, "64 MB", "much", "", None, "9" * 30])
def test_a_size_that_is_none_is_explained(raw: object) -> None:
    """The sentence says what to write instead."""
    with pytest.raises(ValueError, match='write for example "64 MiB"'):
        parse.parse_size(raw)


@pytest.mark.parametrize("raw", [0, 8761, "a week", True])
def test_an_age_is_whole_hours(raw: object) -> None:
    """An hour at least, a year at most."""
    assert 168 == parse.parse_hours("168")
    with pytest.raises(ValueError, match="whole hours from 1 to 8760"):
        parse.parse_hours(raw)

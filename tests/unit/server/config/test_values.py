"""Paths, log levels and database addresses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.config.values import (
    mask_credential,
    mask_database_url,
    parse_credential,
    parse_database_url,
    parse_log_format,
    parse_log_level,
    parse_path,
)


def test_a_path_is_absolute() -> None:
    """A relative path would depend on where the service was started."""
    assert Path("/etc/ct-ops") == parse_path("/etc/ct-ops")
    for text in ("relative", "./x", "~/x", "/nul\0"):
        with pytest.raises(ValueError, match="no absolute path"):
            parse_path(text)


def test_a_log_level_is_one_of_four() -> None:
    """In any case of letters."""
    assert "warning" == parse_log_level("WARNING")
    with pytest.raises(ValueError, match="no log level"):
        parse_log_level("verbose")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ops:secret@db:5432/ops?sslmode=require",
        "postgres:///ops?host=/run/postgresql",
        "sqlite:////var/lib/ct-ops/server/ct-ops.db",
        "sqlite:////odd#path?/ct-ops.db",
    ],
)
def test_a_database_address_is_kept_as_it_is(url: str) -> None:
    """The store translates it; here only the scheme is looked at."""
    assert url == parse_database_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@h/d",
        "postgresql+asyncpg://u:hunter2@h/d",
        "hunter2",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///relative.db",
        "sqlite:////",
    ],
)
def test_a_database_we_do_not_serve_is_refused_without_repeating_its_address(url: str) -> None:
    """The error never shows what may be a password."""
    with pytest.raises(ValueError, match=r"does not begin|names no file") as caught:
        parse_database_url(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ops:s@db/ops", "postgresql://ops:***@db/ops"),
        ("postgresql://ops@db:5432/ops", "postgresql://ops@db:5432/ops"),
        ("postgresql://ops:a/b#c?d@e@db/ops", "postgresql://ops:***@db/ops"),
        ("postgresql://:s@/ops", "postgresql://:***@/ops"),
        (
            "postgresql:///ops?user=x&password=s&sslmode=require",
            "postgresql:///ops?user=x&password=***&sslmode=require",
        ),
        ("postgresql:///ops?sslPassword=s", "postgresql:///ops?sslPassword=***"),
        ("sqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
    ],
)
def test_a_shown_address_hides_passwords(url: str, shown: str) -> None:
    """In the user part, also unescaped, and in the query."""
    assert shown == mask_database_url(url)


@given(st.text(st.characters(exclude_characters="*&"), min_size=1))
def test_attack_no_password_survives_masking(password: str) -> None:
    """Whatever characters a password has, it is not shown."""
    marked = f"<{password}>"

    assert marked not in mask_database_url(f"postgresql://ops:{marked}@db/ops")
    assert marked not in mask_database_url(f"postgresql://db/ops?password={marked}")


def test_a_credential_can_stand_in_a_header_and_is_never_shown() -> None:
    """Neither in what is shown of a configuration nor in the complaint about it."""
    assert "k3y!" == parse_credential("k3y!")
    assert ("***", "") == (mask_credential("k3y!"), mask_credential(""))
    for text in ("two words", "schlüssel", "line\nline", ""):
        with pytest.raises(ValueError, match=r"^holds a space or a character that is not ASCII$"):
            parse_credential(text)


def test_a_format_of_the_log_is_one_of_two() -> None:
    """In any case of letters."""
    assert "json" == parse_log_format("JSON")
    with pytest.raises(ValueError, match="no format of the log"):
        parse_log_format("xml")

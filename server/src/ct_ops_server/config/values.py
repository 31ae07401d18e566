"""Parsers for the other values: paths, log levels, database addresses. Pure; no file is touched."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

_DATABASE_SCHEMES = ("sqlite", "postgres", "postgresql")
_MASK = "***"
_LARGEST_COUNT = 1_000_000
_MOST_WORKERS = 64
_SQLITE_FILE = re.compile(r"sqlite:////.*[^/]")
_USER_PASSWORD = re.compile(r"(://[^:/@]*:).*@", re.DOTALL)
_QUERY_PASSWORD = re.compile(r"([?&][^=&]*pass[^=&]*=)[^&]*", re.IGNORECASE)


def parse_path(text: str) -> Path:
    """Return an absolute path. Raises ``ValueError`` for a relative one: services have no useful folder."""
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise ValueError("is no absolute path")
    return path


def parse_optional_path(text: str) -> Path | None:
    """Return an absolute path, None for an empty text. Raises ``ValueError`` for a relative one."""
    return parse_path(text) if text else None


def parse_count(text: str) -> int:
    """Return a whole number from 1 to a million. Raises ``ValueError``."""
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= _LARGEST_COUNT:
        raise ValueError("is no whole number from 1 to 1000000")
    return int(text)


def parse_networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Return networks of the form ``address/prefix``, a bare address being one of its own. Raises ``ValueError``."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"has a part that is no network: {error}") from error


def parse_workers(text: str) -> int:
    """Return a number of processes. Raises ``ValueError``."""
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= _MOST_WORKERS:
        raise ValueError(f"is no whole number from 1 to {_MOST_WORKERS}")
    return int(text)


def parse_credential(text: str) -> str:
    """Return what can stand in an HTTP header as it is. Raises ``ValueError``, never with the text."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("holds a space or a character that is not ASCII")
    return text


def mask_credential(text: str) -> str:
    """Return that there is one."""
    return _MASK if text else ""


def parse_flag(text: str) -> bool:
    """Return whether the text is one of the words that existing servers take for yes. Raises ``ValueError``."""
    word = text.strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError("is neither true nor false")


def parse_base_url(text: str) -> str:
    """Return the address of an HTTP server without a slash at its end. Raises ``ValueError``."""
    address = text.strip().rstrip("/")
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+(/[A-Za-z0-9._~/-]*)?", address):
        raise ValueError("is no http:// or https:// address")
    return address


def parse_log_level(text: str) -> str:
    """Return one of ``LOG_LEVELS``. Raises ``ValueError``."""
    level = text.lower()
    if level not in LOG_LEVELS:
        raise ValueError("is no log level")
    return level


def parse_log_format(text: str) -> str:
    """Return one of ``LOG_FORMATS``. Raises ``ValueError``."""
    form = text.lower()
    if form not in LOG_FORMATS:
        raise ValueError("is no format of the log")
    return form


def parse_database_url(text: str) -> str:
    """Return the address as it is, when its scheme is one we serve; the store translates it for its driver.

    Raises:
        ValueError: another scheme, or an SQLite address without a file. The text is not repeated: it
            may hold a password.
    """
    scheme = text.partition("://")[0]
    if "://" not in text or scheme not in _DATABASE_SCHEMES:
        raise ValueError("does not begin with postgresql://, postgres:// or sqlite:///")
    if scheme == "sqlite" and not _SQLITE_FILE.fullmatch(text):
        raise ValueError("names no file by an absolute path (which makes it four slashes)")
    return text


def mask_database_url(url: str) -> str:
    """Return the address with every password replaced, for people to read.

    Not taken apart as a URL: a password with an unescaped ``/`` or ``#`` would end up in another part
    and be shown. Whatever stands between the first colon and the last ``@`` is hidden.
    """
    without_user_password = _USER_PASSWORD.sub(rf"\1{_MASK}@", url, count=1)
    return _QUERY_PASSWORD.sub(rf"\1{_MASK}", without_user_password)

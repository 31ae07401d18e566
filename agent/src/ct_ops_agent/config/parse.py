"""How a configured value is read: one pure function for each kind.

Each takes what a source holds (text from the environment and the command line, a typed value from
TOML) and raises ``ValueError`` with a sentence that says what to write instead. No message repeats
a value that could be a secret.
"""

import re
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.control_plane import Tag
from ct_ops_proto.enrolment_token import MAX_ACCEPTED_BYTES, EnrolmentToken, TokenIncompleteError, parse_token

DEFAULT_PORT = 9443
_LARGEST_PORT = 65535
_LONGEST_INTERVAL_S = 3600
_LONGEST_HOSTNAME = 253
_LONGEST_AGE_HOURS = 8760
_SMALLEST_OUTBOX, _LARGEST_OUTBOX = 8 * 1024**2, 64 * 1024**3
_SIZE = re.compile(r"(?P<number>[0-9]{1,15})\s*(?P<unit>|B|KiB|MiB|GiB)")
_UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def parse_address(raw: object) -> str:
    """Read ``host:port``; the port may be left out."""
    text = _text(raw, "an address such as ingest.example.com:9443")
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no host:port; write for example ingest.example.com:9443, without https://"
        )
    port = int(match["port"] or DEFAULT_PORT)
    if not 1 <= port <= _LARGEST_PORT:
        raise ValueError(f"{port} is no port; write one from 1 to {_LARGEST_PORT}")
    return f"{match['host']}:{port}"


def parse_path(raw: object) -> Path:
    """Read a path of a file or directory."""
    return Path(_text(raw, "a path in quotes"))


def parse_boolean(raw: object) -> bool:
    """Read ``true`` or ``false``."""
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in _BOOLEANS:
        return _BOOLEANS[raw.strip().lower()]
    raise ValueError(f"{raw!r} is neither true nor false; write true or false")


def parse_interval(raw: object) -> timedelta:
    """Read whole seconds, 1 to 3600."""
    advice = f"write whole seconds from 1 to {_LONGEST_INTERVAL_S}, for example 30"
    return timedelta(seconds=_whole_number(raw, 1, _LONGEST_INTERVAL_S, advice))


def parse_hours(raw: object) -> int:
    """Read whole hours, 1 to 8760."""
    advice = f"write whole hours from 1 to {_LONGEST_AGE_HOURS}, for example 168"
    return _whole_number(raw, 1, _LONGEST_AGE_HOURS, advice)


def parse_size(raw: object) -> int:
    """Read bytes, 8 MiB to 64 GiB: a number, or text such as ``"64 MiB"``."""
    advice = 'write for example "64 MiB" or 67108864, from 8 MiB to 64 GiB'
    match = _SIZE.fullmatch(raw.strip()) if isinstance(raw, str) else None
    number = int(match["number"]) * _UNITS[match["unit"]] if match else raw
    return _whole_number(number, _SMALLEST_OUTBOX, _LARGEST_OUTBOX, advice)


def parse_tags(raw: object) -> tuple[Tag, ...]:
    """Read a list of ``key:value``; text is a list with commas between."""
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list | tuple):
        raise ValueError(f'{raw!r} is no list; write for example ["env:prod", "site:lab"]')  # noqa: TRY004 - as above
    return tuple(_parse_tag(item) for item in items if not isinstance(item, str) or item.strip())


def parse_hostname(raw: object) -> str:
    """Read a host name as it is to be reported."""
    text = _text(raw, "a host name")
    if len(text) > _LONGEST_HOSTNAME or not text.isprintable() or " " in text:
        raise ValueError(
            f"{text[:40]!r} is no host name; write letters, digits, dots and hyphens, at most 253"
        )
    return text


def parse_enrolment_token(raw: object) -> EnrolmentToken:
    """Read an enrolment token, one of ours or an opaque one of an existing server."""
    if not isinstance(raw, str):
        raise ValueError("not text; put the whole token in quotes")  # noqa: TRY004 - as above
    text = raw.strip()
    if len(text.encode()) > MAX_ACCEPTED_BYTES or not text.isprintable() or not text.isascii():
        raise ValueError(
            "this is no enrolment token; copy the token that the server printed, and nothing else"
        )
    try:
        token = parse_token(text)
    except TokenIncompleteError as error:
        raise ValueError(
            "token incomplete, copy it again: the whole of it, up to its last character"
        ) from error
    for address in token.hint.addresses if token.hint else ():
        parse_address(address)  # our own servers make no other; the hint will be dialled
    return token


def parse_anything(raw: object) -> str:
    """Accept a value that is ignored."""
    return str(raw)


def _whole_number(raw: object, least: int, most: int, advice: str) -> int:
    try:
        number = int(raw.strip()) if isinstance(raw, str) else raw
    except ValueError as error:
        raise ValueError(f"{raw!r} is no number; {advice}") from error
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{raw!r} is no whole number; {advice}")  # noqa: TRY004 - ValueError is this module's contract
    if not least <= number <= most:
        raise ValueError(f"{number} is out of range; {advice}")
    return number


def _parse_tag(raw: object) -> Tag:
    text = raw.strip() if isinstance(raw, str) else ""
    # Installers of existing agents write k=v on the command line and k:v in the file.
    separator = ":" if ":" in text else "="
    key, found, value = text.partition(separator)
    if not found or not key.strip():
        raise ValueError(f"{raw!r} is no tag; write key:value, for example env:prod")
    return Tag(key.strip(), value.strip())


def _text(raw: object, wanted: str) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} is not text; write {wanted}")  # noqa: TRY004 - ValueError is this module's contract
    return raw.strip()

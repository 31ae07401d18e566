"""The form of files that are carried: one JSON object that people can read, of a named kind and version.

Here is what holds for each of them, whatever it says: its size, its spelling, that no reader can read it differently, and
a sentence for whoever carries it when it is not what it should be. What they say is ``carried_enrolment``'s.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NoReturn

LARGEST_BYTES = 64 * 1024
"""Of any file. A larger one is refused before it is parsed."""

REQUEST, REPLY = "enrolment-request", "enrolment-reply"
VERSION = 1

_TEXT_CHARS = 4096
_PEM_CHARS = 32 * 1024
_MOST_LISTED = 256
_LATEST_UNIX = 7_258_118_400  # the year 2200


class Fault(StrEnum):
    """What is wrong with a file."""

    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    OTHER_KIND = "other_kind"
    OTHER_VERSION = "other_version"
    MALFORMED = "malformed"


class CarriedFormError(ValueError):
    """A file that is not what it should be. ``str()`` is a sentence for whoever carries it."""

    def __init__(self, fault: Fault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault = fault


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return the one spelling of a document that is signed: keys sorted, no spaces, ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def base64_of(data: bytes) -> str:
    """Return data as a document holds it."""
    return base64.b64encode(data).decode()


def parse_object(data: bytes, kind: str) -> dict[str, Any]:
    """Read a file of this kind and version; return its object without saying so.

    Raises:
        CarriedFormError: it is none.
    """
    if len(data) > LARGEST_BYTES:
        raise CarriedFormError(
            Fault.TOO_LARGE, f"the file is larger than {LARGEST_BYTES // 1024} KiB, which no {_said(kind)} is"
        )
    try:
        document = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_each_once,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("ct_ops"), str):
        raise CarriedFormError(Fault.NOT_JSON, _is_none(kind))
    found, version = document.pop("ct_ops"), document.pop("version", None)
    if found != kind:
        raise CarriedFormError(Fault.OTHER_KIND, _other_kind(found, kind))
    if version != VERSION or isinstance(version, bool):
        raise CarriedFormError(
            Fault.OTHER_VERSION,
            f"the {_said(kind)} is of another version than {VERSION}; update the older of agent and server",
        )
    return document


def _other_kind(found: str, wanted: str) -> str:
    if found == REPLY:
        return "this is a reply: carry it to its host, and there type: ct-ops-agent enrol --reply FILE"
    if found == REQUEST:
        return "this is a request: carry it to the server, and there type: ct-ops-server enrol sign FILE -o REPLY"
    return _is_none(wanted)


def _is_none(kind: str) -> str:
    return f"the file is no {_said(kind)} of CT-Ops; was it damaged on the way?"


def _said(kind: str) -> str:
    return kind.replace("-", " ")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what two readers could read differently."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands there twice")
    return document


def _no_number(_text: str) -> NoReturn:
    raise ValueError("only whole numbers")


class Fields:
    """The fields of a document, each taken once and checked for its form."""

    def __init__(self, document: dict[str, Any], kind: str) -> None:
        self._document = document
        self._kind = kind

    def text(self, name: str, longest: int = _TEXT_CHARS) -> str:
        """Take a text."""
        value: str = self._taken(name, lambda value: _is_text(value, longest), "a text")
        return value

    def required(self, name: str) -> str:
        """Take a text that is not empty."""
        value: str = self._taken(name, lambda value: _is_text(value, _TEXT_CHARS) and bool(value), "a text")
        return value

    def pem(self, name: str) -> str:
        """Take one or more PEM blocks."""
        value: str = self._taken(
            name, lambda value: _is_text(value, _PEM_CHARS) and "-----BEGIN" in value, "in PEM form"
        )
        return value

    def matching(self, name: str, pattern: re.Pattern[str], form: str) -> str:
        """Take a text of a certain form."""
        value: str = self._taken(
            name, lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None, form
        )
        return value

    def moment(self, name: str) -> int:
        """Take seconds since 1970."""
        value: int = self._taken(name, _is_moment, "seconds since 1970")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of texts."""
        return tuple(self._taken(name, _is_list_of_texts, "a list of texts"))

    def mapping(self, name: str) -> dict[str, str]:
        """Take texts by names."""
        value: dict[str, str] = self._taken(name, _is_mapping_of_texts, "an object of texts")
        return value

    def data(self, name: str) -> bytes:
        """Take bytes in base64."""
        text = self.text(name, 2 * _TEXT_CHARS)
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            self.refuse(name, "in base64")

    def must_be_empty(self) -> None:
        """Refuse what nobody has taken."""
        for name in self._document:
            self.refuse(name, "known to this version")

    def refuse(self, name: str, form: str) -> NoReturn:
        """Raise that a field has not the form it should have."""
        raise CarriedFormError(
            Fault.MALFORMED,
            f"the {self._kind}'s {name[:40]!r} is not {form}; was the file edited on the way?",
        )

    def _taken(self, name: str, fits: Callable[[Any], bool], form: str) -> Any:
        value = self._document.pop(name, None)
        if not fits(value):
            self.refuse(name, form)
        return value


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and _is_encodable(value)


def _is_encodable(text: str) -> bool:
    """Whether it has no lone surrogate, which JSON can spell and UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_moment(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LATEST_UNIX


def _is_list_of_texts(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_LISTED
        and all(_is_text(each, _TEXT_CHARS) for each in value)
    )


def _is_mapping_of_texts(value: object) -> bool:
    return (
        isinstance(value, dict) and _is_list_of_texts(list(value)) and _is_list_of_texts(list(value.values()))
    )

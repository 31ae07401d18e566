"""Enrolment by sneakernet: the two files that are carried between a host and a server that cannot reach each other.

A *carried request* is a Register in a file: what the host says about itself, its CSR, and a signature by its key
over all of it. There is no server to ask for a nonce, so freshness comes from the request itself: a random id that
a server answers once, and the moment it was made. A *carried reply* has what an admission gives: leaf, agent token,
and which server to believe where.

Both are one JSON object that people can read before they let it pass a gate: ``ct_ops`` names the kind, ``version`` the
form. The signature is over a canonical spelling of the object (keys sorted, no spaces, ASCII), after a text that no other
signature of ours begins with, so white space may change on the way and nothing else.

What is parsed here has the right form and bounded size; what it says is claimed. Files are ``carried_files``' part.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn

LARGEST_BYTES = 64 * 1024
"""Of either file. A larger one is refused before it is parsed."""

REQUEST_ID_BYTES = 16

_REQUEST, _REPLY = "enrolment-request", "enrolment-reply"
_VERSION = 1
_SIGNED = b"ct-ops-enrol-request-1"
_ID = re.compile(r"[0-9a-f]{32}")
_AGENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
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


@dataclass(frozen=True)
class CarriedTag:
    """A label that the host claims for itself."""

    key: str
    value: str


@dataclass(frozen=True)
class CarriedRequest:
    """What a host says to be admitted. All of it is claimed, until ``signature`` is checked."""

    request_id: str
    """32 hex digits, random: a server answers it once."""
    made_at_unix: int
    """By the host's clock."""
    public_key_pem: str
    csr_der: bytes = field(repr=False)
    agent_version: str
    hostname: str
    os: str
    os_version: str
    arch: str
    ip_addresses: tuple[str, ...] = ()
    tags: tuple[CarriedTag, ...] = ()
    machine_id: str = ""
    """Digest (``machine_identity``); empty: not said."""
    signature: bytes = field(default=b"", repr=False)

    def signed_text(self) -> bytes:
        """Return what the host's key signs: everything but the signature."""
        return _SIGNED + b"\n" + _canonical(_request_document(self))


@dataclass(frozen=True)
class CarriedReply:
    """What an admission gives, on its way to the host."""

    request_id: str
    """Of the request that it answers."""
    agent_id: str
    hostname: str
    made_at_unix: int
    """By the server's clock."""
    leaf_pem: str
    agent_ca_pem: str
    agent_token: str = field(repr=False)
    server_ca_pem: str
    """What to believe at the addresses."""
    addresses: tuple[str, ...]
    installation_id: str


def request_text(request: CarriedRequest) -> str:
    """Return the file of a signed request."""
    document = _request_document(request) | {"signature": _base64(request.signature)}
    return json.dumps(document, indent=2) + "\n"


def parse_request(data: bytes) -> CarriedRequest:
    """Read a carried request.

    Raises:
        CarriedFormError: it is none.
    """
    found = _Fields(_parse_object(data, _REQUEST), "request")
    request = CarriedRequest(
        request_id=found.matching("request_id", _ID, "32 hex digits"),
        made_at_unix=found.moment("made_at_unix"),
        public_key_pem=found.text("public_key_pem"),
        csr_der=found.data("csr"),
        agent_version=found.text("agent_version"),
        hostname=found.text("hostname"),
        os=found.text("os"),
        os_version=found.text("os_version"),
        arch=found.text("arch"),
        ip_addresses=found.texts("ip_addresses"),
        tags=tuple(CarriedTag(key, value) for key, value in found.mapping("tags").items()),
        machine_id=found.text("machine_id"),
        signature=found.data("signature"),
    )
    found.must_be_empty()
    return request


def reply_text(reply: CarriedReply) -> str:
    """Return the file of a reply. It holds the agent token: who writes it keeps it to its owner."""
    return json.dumps(reply_document(reply), indent=2) + "\n"


def reply_document(reply: CarriedReply) -> dict[str, Any]:
    """Return a reply as the object that its file holds."""
    return {
        "ct_ops": _REPLY,
        "version": _VERSION,
        "request_id": reply.request_id,
        "agent_id": reply.agent_id,
        "hostname": reply.hostname,
        "made_at_unix": reply.made_at_unix,
        "installation_id": reply.installation_id,
        "addresses": list(reply.addresses),
        "server_ca_pem": reply.server_ca_pem,
        "agent_ca_pem": reply.agent_ca_pem,
        "leaf_pem": reply.leaf_pem,
        "agent_token": reply.agent_token,
    }


def parse_reply(data: bytes) -> CarriedReply:
    """Read a carried reply.

    Raises:
        CarriedFormError: it is none.
    """
    found = _Fields(_parse_object(data, _REPLY), "reply")
    reply = CarriedReply(
        request_id=found.matching("request_id", _ID, "32 hex digits"),
        agent_id=found.matching("agent_id", _AGENT_ID, "an id"),
        hostname=found.text("hostname"),
        made_at_unix=found.moment("made_at_unix"),
        leaf_pem=found.pem("leaf_pem"),
        agent_ca_pem=found.pem("agent_ca_pem"),
        agent_token=found.required("agent_token"),
        server_ca_pem=found.pem("server_ca_pem"),
        addresses=found.texts("addresses"),
        installation_id=found.text("installation_id"),
    )
    found.must_be_empty()
    if not reply.addresses or not all(map(_ADDRESS.fullmatch, reply.addresses)):
        found.refuse("addresses", "a list of host:port")
    return reply


def fingerprint(sha256: bytes) -> str:
    """Return a digest as two people compare it: groups of four, upper case."""
    text = sha256.hex().upper()
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _request_document(request: CarriedRequest) -> dict[str, Any]:
    return {
        "ct_ops": _REQUEST,
        "version": _VERSION,
        "request_id": request.request_id,
        "made_at_unix": request.made_at_unix,
        "hostname": request.hostname,
        "os": request.os,
        "os_version": request.os_version,
        "arch": request.arch,
        "agent_version": request.agent_version,
        "machine_id": request.machine_id,
        "ip_addresses": list(request.ip_addresses),
        "tags": {tag.key: tag.value for tag in request.tags},
        "public_key_pem": request.public_key_pem,
        "csr": _base64(request.csr_der),
    }


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _parse_object(data: bytes, kind: str) -> dict[str, Any]:
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
    if version != _VERSION or isinstance(version, bool):
        raise CarriedFormError(
            Fault.OTHER_VERSION,
            f"the {_said(kind)} is of another version than {_VERSION}; update the older of agent and server",
        )
    return document


def _other_kind(found: str, wanted: str) -> str:
    match found:
        case "enrolment-reply":
            return "this is a reply: carry it to its host, and there type: ct-ops-agent enrol --reply FILE"
        case "enrolment-request":
            return "this is a request: carry it to the server, and there type: ct-ops-server enrol sign FILE -o REPLY"
        case _:
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


class _Fields:
    """The fields of a document, each taken once and checked for its form."""

    def __init__(self, document: dict[str, Any], kind: str) -> None:
        self._document = document
        self._kind = kind

    def text(self, name: str, longest: int = _TEXT_CHARS) -> str:
        value: str = self._taken(name, lambda value: _is_text(value, longest), "a text")
        return value

    def required(self, name: str) -> str:
        value: str = self._taken(name, lambda value: _is_text(value, _TEXT_CHARS) and bool(value), "a text")
        return value

    def pem(self, name: str) -> str:
        value: str = self._taken(
            name, lambda value: _is_text(value, _PEM_CHARS) and "-----BEGIN" in value, "in PEM form"
        )
        return value

    def matching(self, name: str, pattern: re.Pattern[str], form: str) -> str:
        value: str = self._taken(
            name, lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None, form
        )
        return value

    def moment(self, name: str) -> int:
        value: int = self._taken(name, _is_moment, "seconds since 1970")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._taken(name, _is_list_of_texts, "a list of texts"))

    def mapping(self, name: str) -> dict[str, str]:
        value: dict[str, str] = self._taken(name, _is_mapping_of_texts, "an object of texts")
        return value

    def data(self, name: str) -> bytes:
        text = self.text(name, 2 * _TEXT_CHARS)
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            self.refuse(name, "in base64")

    def must_be_empty(self) -> None:
        for name in self._document:
            self.refuse(name, "known to this version")

    def refuse(self, name: str, form: str) -> NoReturn:
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

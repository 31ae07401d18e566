"""Enrolment by sneakernet: the two files that are carried between a host and a server that cannot reach each other.

A *carried request* is a Register in a file: what the host says about itself, its CSR, and a signature by its key
over all of it. There is no server to ask for a nonce, so freshness comes from the request itself: a random id that
a server answers once, and the moment it was made. A *carried reply* has what an admission gives: leaf, agent token,
and which server to believe where.

Both are one JSON object that people can read before they let it pass a gate: ``ct_ops`` names the kind, ``version`` the
form. The signature is over a canonical spelling of the object (keys sorted, no spaces, ASCII), after a text that no other
signature of ours begins with, so white space may change on the way and nothing else.

What is parsed here has the right form and bounded size (``carried_form``); what it says is claimed. Files are
``carried_files``' part.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ct_ops_proto.carried_form import (
    REPLY,
    REQUEST,
    VERSION,
    Fields,
    base64_of,
    canonical,
    parse_object,
)

REQUEST_ID_BYTES = 16

_SIGNED = b"ct-ops-enrol-request-1"
_ID = re.compile(r"[0-9a-f]{32}")
_AGENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


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
        return _SIGNED + b"\n" + canonical(_request_document(self))


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
    document = _request_document(request) | {"signature": base64_of(request.signature)}
    return json.dumps(document, indent=2) + "\n"


def parse_request(data: bytes) -> CarriedRequest:
    """Read a carried request.

    Raises:
        CarriedFormError: it is none.
    """
    found = Fields(parse_object(data, REQUEST), "request")
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
        "ct_ops": REPLY,
        "version": VERSION,
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
    found = Fields(parse_object(data, REPLY), "reply")
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
        "ct_ops": REQUEST,
        "version": VERSION,
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
        "csr": base64_of(request.csr_der),
    }

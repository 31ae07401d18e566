"""The two files of sneakernet enrolment: what is read back is what was written, and nothing else is read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_proto.carried_enrolment import (
    CarriedReply,
    CarriedRequest,
    CarriedTag,
    fingerprint,
    parse_reply,
    parse_request,
    reply_text,
    request_text,
)
from ct_ops_proto.carried_form import LARGEST_BYTES, CarriedFormError, Fault

REQUEST = CarriedRequest(
    request_id="0123456789abcdef" * 2,
    made_at_unix=1_900_000_000,
    public_key_pem="-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    csr_der=b"\x30\x82csr",
    agent_version="1.2.3",
    hostname="insel-ä",
    os="linux",
    os_version="Debian 12",
    arch="amd64",
    ip_addresses=("192.0.2.7", "2001:db8::7"),
    tags=(CarriedTag("rack", "7"), CarriedTag("site", "island")),
    machine_id="ab" * 32,
    signature=b"s" * 64,
)
REPLY = CarriedReply(
    request_id="0123456789abcdef" * 2,
    agent_id="a1",
    hostname="insel-ä",
    made_at_unix=1_900_000_000,
    leaf_pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    agent_ca_pem="-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n",
    agent_token="e30.e30.sig",
    server_ca_pem="-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n",
    addresses=("ops.example.com:9443", "[2001:db8::1]:9443"),
    installation_id="i1",
)


def edited(text: str, **changes: Any) -> bytes:
    """Return a file with some of its fields changed; None takes one out."""
    document = json.loads(text) | changes
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def fault_of(parse: Callable[[bytes], object], data: bytes) -> Fault:
    """Return what is wrong with a file."""
    with pytest.raises(CarriedFormError) as raised:
        parse(data)
    return raised.value.fault


def test_a_request_is_read_as_it_was_written() -> None:
    """Every field, also names that are not ASCII."""
    assert parse_request(request_text(REQUEST).encode()) == REQUEST


def test_a_reply_is_read_as_it_was_written() -> None:
    """Every field."""
    assert parse_reply(reply_text(REPLY).encode()) == REPLY


def test_white_space_and_the_order_of_fields_may_change_on_the_way() -> None:
    """A gate that prints JSON anew does no harm: the signed text is the same."""
    document = json.loads(request_text(REQUEST))
    reversed_text = json.dumps(dict(reversed(document.items())), indent=8)

    assert parse_request(reversed_text.encode()).signed_text() == REQUEST.signed_text()


@pytest.mark.parametrize(
    "change",
    [
        {"hostname": "other"},
        {"tags": ()},
        {"made_at_unix": 1_900_000_001},
        {"request_id": "f" * 32},
        {"machine_id": ""},
        {"csr_der": b"other"},
        {"ip_addresses": ("192.0.2.8",)},
        {"agent_version": "9"},
    ],
)
def test_every_field_is_signed(change: dict[str, Any]) -> None:
    """Whatever is edited on the stick changes the text that was signed."""
    assert replace(REQUEST, **change).signed_text() != REQUEST.signed_text()


def test_the_signed_text_begins_like_no_other_signature_of_ours() -> None:
    """So that no proof made for something else is a request."""
    assert REQUEST.signed_text().startswith(b"ct-ops-enrol-request-1\n{")


GARBAGE = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\x00\xff\xfe" * 100, id="binary"),
    pytest.param(b"ct_ops: enrolment-request\nversion: 1\n", id="YAML"),
    pytest.param(b'"ct_ops"', id="a JSON text"),
    pytest.param(b"[" * 50_000, id="nested without end"),
    pytest.param(b'{"a":' * 10_000, id="objects nested without end"),
    pytest.param(b'{"ct_ops": 1}', id="a kind that is no text"),
    pytest.param(b'{"ct_ops": "enrolment-request", "version": 1, "version": 1}', id="a key twice"),
    pytest.param(b'{"ct_ops": "enrolment-request", "version": 1.0}', id="a fraction"),
    pytest.param(b'{"ct_ops": "enrolment-request", "version": NaN}', id="no number"),
    pytest.param(b'{"ct_ops": "enrolment-request", "version": ' + b"9" * 6000 + b"}", id="a huge number"),
]


@pytest.mark.parametrize("data", GARBAGE)
@pytest.mark.parametrize("parse", [parse_request, parse_reply])
def test_attack_garbage_is_refused_as_what_it_is(parse: Callable[[bytes], object], data: bytes) -> None:
    """Neither half crashes on a file that is none of ours."""
    assert fault_of(parse, data) is Fault.NOT_JSON


@pytest.mark.parametrize("parse", [parse_request, parse_reply])
def test_attack_an_oversize_file_is_refused_before_it_is_parsed(parse: Callable[[bytes], object]) -> None:
    """One byte more than the limit, whatever it says."""
    assert fault_of(parse, b" " * (LARGEST_BYTES + 1)) is Fault.TOO_LARGE


def test_a_reply_is_no_request_and_a_request_no_reply() -> None:
    """Who gave the wrong file is told which one it is."""
    assert fault_of(parse_request, reply_text(REPLY).encode()) is Fault.OTHER_KIND
    assert fault_of(parse_reply, request_text(REQUEST).encode()) is Fault.OTHER_KIND


@pytest.mark.parametrize("version", [0, 2, "1", True, None])
def test_another_version_is_told_as_one(version: object) -> None:
    """A newer agent, or a newer server, is not mistaken for damage."""
    assert fault_of(parse_request, edited(request_text(REQUEST), version=version)) is Fault.OTHER_VERSION


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": "short"},
        {"request_id": "A" * 32},
        {"made_at_unix": -1},
        {"made_at_unix": True},
        {"made_at_unix": 10**12},
        {"csr": "no base64!"},
        {"csr": "A" * 9000},
        {"signature": None},
        {"hostname": 7},
        {"hostname": "x" * 5000},
        {"hostname": "\ud800"},
        {"ip_addresses": "192.0.2.1"},
        {"ip_addresses": [1]},
        {"ip_addresses": ["x"] * 300},
        {"tags": {"a": 1}},
        {"tags": ["a"]},
        {"surplus": "x"},
        {"os": None},
    ],
)
def test_a_request_of_another_form_is_refused(change: dict[str, Any]) -> None:
    """Every field has its type and its bound, and there are no others."""
    assert fault_of(parse_request, edited(request_text(REQUEST), **change)) is Fault.MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": []},
        {"addresses": ["no port"]},
        {"addresses": ["a:1 b:2"]},
        {"agent_id": ""},
        {"agent_id": "a\u001b[2J"},
        {"agent_token": ""},
        {"leaf_pem": "none"},
        {"server_ca_pem": None},
        {"surplus": "x"},
    ],
)
def test_a_reply_of_another_form_is_refused(change: dict[str, Any]) -> None:
    """What is missing cannot be installed."""
    assert fault_of(parse_reply, edited(reply_text(REPLY), **change)) is Fault.MALFORMED


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from([(parse_request, request_text(REQUEST)), (parse_reply, reply_text(REPLY))]),
    st.dictionaries(
        st.sampled_from(sorted(json.loads(request_text(REQUEST)) | json.loads(reply_text(REPLY)))), _JSON
    ),
)
def test_attack_whatever_is_written_into_a_field_is_read_or_refused(
    file: tuple[Callable[[bytes], object], str], changes: dict[str, Any]
) -> None:
    """There is no third way: a file cannot crash a command of root's."""
    parse, text = file
    with contextlib.suppress(CarriedFormError):
        parse(json.dumps(json.loads(text) | changes).encode())


@given(st.binary(max_size=300))
def test_attack_whatever_bytes_there_are_they_are_refused(data: bytes) -> None:
    """By a sentence, on both sides."""
    for parse in (parse_request, parse_reply):
        with pytest.raises(CarriedFormError):
            parse(data)


def test_no_secret_is_shown_by_a_reply() -> None:
    """The agent token stays out of logs and reports."""
    assert REPLY.agent_token not in repr(REPLY)


def test_a_fingerprint_is_written_for_two_people_to_compare() -> None:
    """Groups of four, upper case."""
    assert fingerprint(bytes.fromhex("00ff10aa")) == "00FF 10AA"

"""Enrolment by sneakernet, the host's half: a request that is carried to the server, and what its reply means.

No server is asked here, so everything that a connection would prove has to be proven by what is carried:

* the request is signed by the agent's key, whole (``ct_ops_proto.carried_enrolment``);
* a reply is taken only for a request of this host that waits for one, and only with a leaf for the very key that
  asked: a reply for another host, or from before a rotation, is refused, and so is one that was installed already;
* which server to believe from now on has no proof of its own. It is measured by what is known, the first of: the pin
  that was typed, the pin in the enrolment token, the configured authority, the bundle of an earlier enrolment. On
  a host that knows nothing of them, the fingerprint is compared by eye.

A reply that was left for a running agent was measured by the command that left it: the agent judges it once more, as far as
it is about this host. The files on the stick are the command's part. This module loads `cryptography`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ct_ops_agent.control_plane import Tag
from ct_ops_agent.errors import ConfigError, EnrolmentRefusedError, Problem, Refusal
from ct_ops_agent.host import HostFacts
from ct_ops_agent.identity.carried_request import (
    OpenRequests,
    forget_open_requests,
    load_open_requests,
    remove_left_reply,
)
from ct_ops_agent.identity.certificates import leaf_life, make_csr, names_agent, sign
from ct_ops_agent.identity.credentials import CredentialStore, Identity, StoredRoute
from ct_ops_agent.identity.keystore import KeyPair, load_key_pair, parse_pem, to_pem
from ct_ops_agent.secret import Secret
from ct_ops_proto.carried_enrolment import CarriedReply, CarriedRequest, CarriedTag, parse_reply
from ct_ops_proto.carried_form import CarriedFormError

_log = logging.getLogger(__name__)

_SHORTEST_PIN = 32
"""Hex digits: 128 bits of the digest are as many as anybody can be expected to type."""

_PIN = re.compile(rf"[0-9a-f]{{{_SHORTEST_PIN},64}}")
_MOST_ADDRESSES = 256


@dataclass(frozen=True)
class Vouchers:
    """What this host knows of the server that it shall believe; empty: nothing."""

    pin: str = ""
    """Typed: the first hex digits of the SHA-256 of the server's CA."""

    hint: bytes = b""
    """SHA-256 of the CA that the enrolment token names."""

    configured_pem: str = ""
    """``ingest.ca_cert_file``, when an operator wrote it: it is all that the agent believes."""

    known_pem: str = ""
    """The trust bundle of an earlier enrolment, else the authority that the installer brought."""


@dataclass(frozen=True)
class CarriedAdmission:
    """What a reply gives this host."""

    identity: Identity
    route: StoredRoute
    is_vouched_for: bool
    """The server was known; ``False``: its fingerprint has to be compared by eye."""


def make_request(
    keys: KeyPair,
    facts: HostFacts,
    addresses: tuple[str, ...],
    tags: tuple[Tag, ...],
    *,
    agent_version: str,
    request_id: bytes,
    now_unix: float,
) -> CarriedRequest:
    """Return what is carried to the server, signed.

    Args:
        keys: of this agent.
        facts: what this host is.
        addresses: of its interfaces.
        tags: what it claims for itself.
        agent_version: of this agent.
        request_id: 16 random bytes.
        now_unix: this host's clock.
    """
    unsigned = CarriedRequest(
        request_id=request_id.hex(),
        made_at_unix=int(now_unix),
        public_key_pem=keys.public_pem,
        csr_der=make_csr(keys),
        agent_version=agent_version,
        hostname=_text(facts.hostname),
        os=_text(facts.os),
        os_version=_text(facts.os_version),
        arch=_text(facts.arch),
        ip_addresses=tuple(map(_text, addresses[:_MOST_ADDRESSES])),
        tags=tuple(CarriedTag(_text(tag.key), _text(tag.value)) for tag in tags),
        machine_id=facts.machine_id,
    )
    return replace(unsigned, signature=sign(keys, unsigned.signed_text()))


def judge_reply(
    reply: CarriedReply,
    keys: KeyPair | None,
    waiting: OpenRequests,
    vouchers: Vouchers,
    *,
    now_unix: float,
    began_with: str = "",
) -> CarriedAdmission:
    """Decide what a reply means.

    Args:
        reply: as it was carried here.
        keys: this agent's key pair; ``None``: it has none.
        waiting: the requests that wait for a reply.
        vouchers: what is known of the server.
        now_unix: this host's clock.
        began_with: of the authority that the installer brought; empty: it brought none.

    Raises:
        EnrolmentRefusedError: it is not for this host, or not now, or not of the server that is known.
    """
    if keys is None or reply.request_id not in waiting.ids:
        raise _refused("reply_not_awaited", _NOT_AWAITED)
    if waiting.key_id != keys.key_id:
        raise _refused("reply_for_another_key", _ANOTHER_KEY)
    try:
        life = leaf_life(reply.leaf_pem, keys)
        is_about_it = names_agent(reply.leaf_pem, reply.agent_id)
    except ValueError as error:
        raise _refused("reply_for_another_key", _ANOTHER_KEY) from error
    if not is_about_it:
        raise _refused("reply_altered", _ALTERED)
    if life.not_after_unix <= now_unix:
        raise _refused("reply_expired", _expired(life.not_after_unix, now_unix))
    roots, is_vouched_for = _believable(reply, vouchers)
    identity = Identity(
        agent_id=reply.agent_id,
        agent_token=Secret(reply.agent_token),
        keys=keys,
        leaf_pem=reply.leaf_pem,
        agent_ca_pem=reply.agent_ca_pem,
        leaf_not_after_unix=life.not_after_unix,
        leaf_not_before_unix=life.not_before_unix,
    )
    return CarriedAdmission(identity, StoredRoute(reply.addresses, "", roots, began_with), is_vouched_for)


def install(directory: Path, store: CredentialStore, admission: CarriedAdmission) -> None:
    """Write down what a reply gave: from now on this host is that agent.

    Raises:
        DataDirectoryError: the directory cannot be written.
    """
    store.keep_admission(admission.identity, admission.route)
    forget_open_requests(directory)


def install_left(
    directory: Path, store: CredentialStore, text: str, *, now_unix: float, began_with: str = ""
) -> Identity | None:
    """Install the reply that a command left for this agent; ``None``: it cannot be, and is removed.

    Raises:
        DataDirectoryError: the directory cannot be read or written.
    """
    keys = load_key_pair(directory)
    waiting = load_open_requests(directory)
    try:
        admission = judge_reply(
            parse_reply(text.encode()), keys, waiting, Vouchers(), now_unix=now_unix, began_with=began_with
        )
    except (CarriedFormError, EnrolmentRefusedError) as error:
        _log.warning("the carried reply that was left here cannot be installed: %s", error)
        remove_left_reply(directory)
        return None
    install(directory, store, admission)
    remove_left_reply(directory)
    _log.info("enrolled as agent %s, by a reply that was carried here", admission.identity.agent_id)
    return admission.identity


def parse_pin(text: str) -> str:
    """Return a typed pin as hex digits; spaces, colons and dashes between them do not matter.

    Raises:
        ConfigError: it is none.
    """
    pin = re.sub(r"[\s:-]", "", text).lower()
    if not _PIN.fullmatch(pin):
        what = f"a pin is the SHA-256 of the server's CA, at least its first {_SHORTEST_PIN} hex digits"
        raise ConfigError([Problem("--pin", f"{what}; ct-ops-server enrol sign prints it")])
    return pin


def ca_digests(pem: str) -> tuple[bytes, ...]:
    """Return the SHA-256 of every certificate in a PEM text."""
    return tuple(hashlib.sha256(der).digest() for der in _certificates(pem))


def _believable(reply: CarriedReply, vouchers: Vouchers) -> tuple[str, bool]:
    """Return the roots that are believed from now on, and whether they were known.

    Of several only those that are known: whoever could add one to the reply could stand in for the server.
    """
    chosen, is_vouched_for = _chosen(_certificates(reply.server_ca_pem), vouchers)
    configured = _certificates(vouchers.configured_pem)
    if configured:  # that alone is believed when the agent runs
        chosen = _some([der for der in chosen if der in configured], _CONFIGURED_DIFFERS)
    return "".join(to_pem("CERTIFICATE", der) for der in chosen), is_vouched_for or bool(configured)


def _chosen(offered: list[bytes], vouchers: Vouchers) -> tuple[list[bytes], bool]:
    if pin := vouchers.pin or vouchers.hint.hex():
        pinned = [der for der in offered if hashlib.sha256(der).hexdigest().startswith(pin)]
        return _some(pinned, _PIN_DIFFERS), True
    known = _certificates(vouchers.known_pem)
    if known and not vouchers.configured_pem:
        return _some([der for der in offered if der in known], _KNOWN_DIFFERS), True
    return _some(offered, _NO_CA), False


def _some(chosen: list[bytes], sentence: str) -> list[bytes]:
    if not chosen:
        raise _refused("reply_of_another_server", sentence)
    return chosen


def _certificates(pem: str) -> list[bytes]:
    return [der for label, der in parse_pem(pem) if label == "CERTIFICATE"]


def _text(text: str) -> str:
    """Return text that JSON and UTF-8 can carry: names on a host may be bytes that are neither."""
    return text.encode(errors="replace").decode()


def _refused(reason: str, sentence: str) -> EnrolmentRefusedError:
    return EnrolmentRefusedError(sentence, Refusal("", reason, ""))


def _expired(end_unix: int, now_unix: float) -> str:
    end, now = (
        f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC" for moment in (end_unix, now_unix)
    )
    return (
        f"the certificate in this reply ended on {end}, and this host's clock says {now}: set the clock if it is wrong, "
        "else make a new request (ct-ops-agent enrol --request FILE)"
    )


_NOT_AWAITED = (
    "this reply answers no request of this host that waits for one: it is for another host, or it was installed "
    "before, or this host enrolled over the network since, or later requests replaced its own; if this host is not enrolled, make a new request "
    "(ct-ops-agent enrol --request FILE)"
)
_ANOTHER_KEY = (
    "the certificate in this reply is not about this host's key: it is for another host, or this host has another "
    "key by now; make a new request (ct-ops-agent enrol --request FILE)"
)
_ALTERED = (
    "the certificate in this reply is about another agent than the reply says: it was edited or damaged on the way; have "
    "the same request signed again (ct-ops-server enrol sign), and find out who had the stick"
)
_PIN_DIFFERS = (
    "the server in this reply is not the one that the pin names; nothing was installed: compare the pin with what "
    "ct-ops-server enrol sign printed, and find out who had the stick"
)
_CONFIGURED_DIFFERS = (
    "the server in this reply is not of the authority in ingest.ca_cert_file, which is all that this agent would believe; "
    "nothing was installed: remove that key if it is out of date, and give --pin"
)
_KNOWN_DIFFERS = (
    "the server in this reply is another one than this host was enrolled with before; nothing was installed: "
    "give --pin, as ct-ops-server enrol sign printed it, if that is meant"
)
_NO_CA = "this reply names no authority of the server; have the request signed again"

"""The enrolment token's string: it survives every way of handing it on, or says that it did not."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ct_ops_proto.enrolment_token import (
    MAX_ACCEPTED_BYTES,
    MAX_LENGTH,
    ServerHint,
    TokenIncompleteError,
    format_token,
    make_secret,
    parse_token,
    secret_digest,
    strip_hint,
)

BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ALIKE = "+/="
"""What lenient decoders take as well."""

HINT_OVERHEAD = 1 + 32 + 4
"""Bytes of a hint that are not addresses: version, pin, check."""

LONGEST_ADDRESSES = (MAX_LENGTH - len("tok_.") - 32) * 3 // 4 - HINT_OVERHEAD
"""Characters that all addresses of a token may have together."""

secrets = st.binary(min_size=20, max_size=20).map(make_secret)
pins = st.binary(min_size=32, max_size=32)
ports = st.integers(1, 65535)
hosts = st.from_regex(r"[a-z0-9](?:[a-z0-9.-]{0,30}[a-z0-9])?", fullmatch=True)
addresses = st.one_of(
    st.builds("{}:{}".format, hosts, ports),
    st.builds("{}:{}".format, st.ip_addresses(v=4), ports),
    st.builds("[{}]:{}".format, st.ip_addresses(v=6), ports),
)
hints = st.builds(
    ServerHint,
    ca_sha256=pins,
    addresses=st.lists(addresses, min_size=1, max_size=3)
    .map(tuple)
    .filter(lambda several: len(",".join(several)) <= LONGEST_ADDRESSES),
)


@given(secrets, hints)
def test_every_secret_and_hint_comes_back_from_the_string(secret: str, hint: ServerHint) -> None:
    """Formatting and parsing are each other's inverse, and the string is safe in a shell and a URL."""
    text = format_token(secret, hint)
    token = parse_token(text)

    assert (secret, hint) == (token.secret, token.hint)
    assert len(text) <= MAX_LENGTH
    assert re.fullmatch(r"tok_[A-Za-z0-9._-]+", text)


def test_the_string_has_the_documented_layout() -> None:
    """Built here by hand from the format's own words, so that other tools can read it."""
    text = format_token("tok_" + "a" * 32, ServerHint(b"\xff" * 32, ("a:1", "b:2")))

    body = b"\x01" + b"\xff" * 32 + b"a:1,b:2"
    check = hashlib.sha256(b"ct-ops token v1" + b"tok_" + b"a" * 32 + body).digest()[:4]
    assert f"tok_{'a' * 32}." == text[:37]
    assert bytes.fromhex((body + check).hex()) == _decoded(text[37:])


def _decoded(hint: str) -> bytes:
    """Decode base64url bit by bit, with no library in common with the product."""
    bits = "".join(f"{BASE64URL.index(character):06b}" for character in hint)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))


@given(secrets, hints, st.data())
def test_a_hint_cut_anywhere_is_found(secret: str, hint: ServerHint, data: st.DataObject) -> None:
    """A token that was not copied whole is never mistaken for one that points nowhere or elsewhere."""
    text = format_token(secret, hint)
    end = data.draw(st.integers(len(secret) + 1, len(text) - 1))

    with pytest.raises(TokenIncompleteError, match="token incomplete, copy it again"):
        parse_token(text[:end])


@given(secrets, hints, st.data())
def test_one_changed_character_of_a_hint_is_found(secret: str, hint: ServerHint, data: st.DataObject) -> None:
    """Whatever it became, also a character that lenient decoders take for the same."""
    text = format_token(secret, hint)
    at = data.draw(st.integers(len(secret) + 1, len(text) - 1))
    other = data.draw(st.sampled_from(BASE64URL + ALIKE + ".,\n é"))
    assume(other != text[at])

    with pytest.raises(TokenIncompleteError):
        parse_token(text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize("host", ["a", "ab", "abc"])
def test_the_unused_bits_of_the_last_character_are_not_free(host: str) -> None:
    """Base64 has up to 16 last characters for the same bytes: exactly one of them is ours."""
    text = format_token(make_secret(bytes(20)), ServerHint(bytes(32), (f"{host}:9443",)))
    others = [text[:-1] + character for character in BASE64URL + ALIKE if character != text[-1]]

    assert [] == [other for other in others if not _is_refused(other)]


@pytest.mark.parametrize("surplus", ["=", "==", "\n", "A", ".", "AAAA"])
def test_something_after_a_hint_is_found(surplus: str) -> None:
    """Padding, a line end or a character too many is damage too."""
    text = format_token(make_secret(bytes(20)), ServerHint(bytes(32), ("a:9443",)))

    assert _is_refused(text + surplus)


def _is_refused(text: str) -> bool:
    try:
        parse_token(text)
    except TokenIncompleteError:
        return True
    return False


@given(secrets, secrets, hints)
def test_a_hint_belongs_to_its_secret(secret: str, other: str, hint: ServerHint) -> None:
    """A changed character in front of the hint is found by the hint's check."""
    assume(secret != other)
    text = format_token(secret, hint)

    assert _is_refused(other + text[len(secret) :])


@given(st.text(max_size=200))
@example("")
@example("tok_short")
@example("clh3x1k2p0000qw8r5t7y9u1i")
@example("tok_" + "A" * 32)
def test_a_foreign_token_is_sent_as_it_is(text: str) -> None:
    """Tokens of an existing server have no form that we know: not a character is touched."""
    assume(not re.match(r"tok_[a-z2-7]{32}(?:\.|$)", text))
    token = parse_token(text)

    assert (text, None) == (token.secret, token.hint)
    assert text == strip_hint(text)


@given(secrets)
def test_a_secret_alone_is_a_whole_token(secret: str) -> None:
    """Without a hint the agent is told the server's address in another way."""
    token = parse_token(secret)

    assert (secret, None) == (token.secret, token.hint)


@given(secrets, st.text(max_size=200))
def test_the_server_knows_a_token_by_its_secret_whatever_follows(secret: str, rest: str) -> None:
    """Existing agents send the whole string, also a damaged one: the secret alone admits."""
    assert secret == strip_hint(f"{secret}.{rest}")


@given(secrets, hints)
def test_both_sides_hash_the_secret_part_only(secret: str, hint: ServerHint) -> None:
    """The digest that the server stored is the one it finds again, with or without the hint."""
    text = format_token(secret, hint)

    assert hashlib.sha256(secret.encode()).digest() == secret_digest(strip_hint(text))
    assert secret_digest(secret) == parse_token(text).digest


def test_a_foreign_token_has_the_digest_that_its_server_stored() -> None:
    """SHA-256 of the whole string, so that an existing system's hashes can be imported."""
    opaque = "clh3x1k2p0000qw8r5t7y9u1i"

    assert hashlib.sha256(opaque.encode()).digest() == parse_token(opaque).digest


@given(secrets, hints)
def test_no_representation_shows_a_secret(secret: str, hint: ServerHint) -> None:
    """Neither ``repr`` nor ``str`` nor a format of a parsed token: those end in logs."""
    token = parse_token(format_token(secret, hint))

    assert not any(secret[4:] in shown for shown in (repr(token), str(token), f"{token}"))


def test_an_error_about_a_token_shows_nothing_of_it() -> None:
    """Neither the sentence nor the causes that a traceback would print."""
    text = "tok_" + "s" * 32 + ".not*base64"
    with pytest.raises(TokenIncompleteError) as caught:
        parse_token(text)

    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "ssss" not in shown
    assert "not*base64" not in shown


def test_the_longest_token_has_the_documented_length() -> None:
    """Addresses may fill the string to its last character, and not one further."""
    host = "h" * (LONGEST_ADDRESSES - len(":9443"))
    fits = ServerHint(bytes(32), (f"{host}:9443",))
    too_long = ServerHint(bytes(32), (f"h{host}:9443",))

    assert MAX_LENGTH == len(format_token(make_secret(bytes(20)), fits))
    with pytest.raises(ValueError, match=rf"too long for a token \(16[4-9] of {MAX_LENGTH} characters\)"):
        format_token(make_secret(bytes(20)), too_long)


@pytest.mark.parametrize(
    ("pin", "addresses_", "said"),
    [
        (bytes(32), (), "at least one address"),
        (bytes(32), ("no-port",), "no host:port"),
        (bytes(32), ("a:1,b:2",), "no host:port"),
        (bytes(32), ("a:1", "rm -rf /:1"), "no host:port"),
        (bytes(32), ("::1:9443",), "no host:port"),
        (bytes(31), ("a:1",), "pin has 32 bytes"),
        (bytes(33), ("a:1",), "pin has 32 bytes"),
    ],
)
def test_a_hint_that_could_not_come_back_is_not_written(
    pin: bytes, addresses_: tuple[str, ...], said: str
) -> None:
    """Better no token than one that fails on the host."""
    with pytest.raises(ValueError, match=said):
        format_token(make_secret(bytes(20)), ServerHint(pin, addresses_))


@pytest.mark.parametrize("count", [0, 19, 21])
def test_a_secret_has_its_full_strength_or_is_not_made(count: int) -> None:
    """160 bits are the reason for which no slow hash is needed."""
    with pytest.raises(ValueError, match="20 random bytes"):
        make_secret(bytes(count))


def test_every_token_of_ours_is_far_below_the_limit_before_hashing() -> None:
    """What both sides refuse unread can never be one of ours."""
    assert MAX_LENGTH < MAX_ACCEPTED_BYTES

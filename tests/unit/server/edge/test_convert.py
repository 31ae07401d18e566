"""Whatever an agent sends, what leaves ``edge.convert`` can be stored on both databases (rule 15)."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.authority.public_key import PublicKey
from ct_ops_server.edge import convert
from ct_ops_server.edge.refusals import Refused
from ct_ops_server.enrolment.model import Application, EnrolmentRefusedError, Refusal
from ct_ops_server.fleet.model import Frame
from wire_client import Host

NOW = datetime(2030, 1, 2, tzinfo=UTC)
UINT64 = st.integers(0, 2**64 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(width=32)
TEXT = st.text(max_size=2_000).filter(lambda text: text.isascii() or _encodable(text))


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


DISKS = st.builds(
    wire.DiskInfo, mount_point=TEXT, device=TEXT, fs_type=TEXT,
    total_bytes=UINT64, used_bytes=UINT64, free_bytes=UINT64, percent_used=FLOAT,
)  # fmt: skip
INTERFACES = st.builds(
    wire.NetworkInterface, name=TEXT, mac_address=TEXT, is_up=st.booleans(),
    ip_addresses=st.lists(TEXT, max_size=3),
)  # fmt: skip
FRAMES = st.builds(
    wire.HeartbeatRequest, cpu_percent=FLOAT, memory_percent=FLOAT, disk_percent=FLOAT,
    uptime_seconds=INT64, timestamp_unix=INT64, agent_version=TEXT, os=TEXT, os_version=TEXT, arch=TEXT,
    disks=st.lists(DISKS, max_size=3), network_interfaces=st.lists(INTERFACES, max_size=3),
)  # fmt: skip


def assert_storable(value: object) -> None:
    """Fail when a database would choke on any scalar in the value."""
    match value:
        case bool():
            pass
        case str():
            value.encode()
            assert "\0" not in value
            assert len(value) <= 512
        case int():
            assert 0 <= value < 2**63
        case float():
            assert math.isfinite(value)
        case list() | tuple():
            for item in value:
                assert_storable(item)
        case _:
            for name in value.__struct_fields__:  # type: ignore[attr-defined]
                assert_storable(getattr(value, name))


def frame_of(message: wire.HeartbeatRequest) -> Frame:
    return convert.frame_of(message, convert.facts_of(message), NOW)


def assert_frame_storable(frame: Frame) -> None:
    assert_storable(frame.vitals)
    assert_storable(frame.facts)


@given(message=FRAMES)
def test_every_frame_is_storable(message: wire.HeartbeatRequest) -> None:
    """No NUL, nothing infinite, nothing beyond 63 bits, nothing without end."""
    assert_frame_storable(frame_of(message))


@given(raw=st.binary(max_size=400))
def test_whatever_parses_is_storable(raw: bytes) -> None:
    """Bytes that happen to be a message are no exception."""
    message = wire.HeartbeatRequest()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        return
    assert_frame_storable(frame_of(message))


@given(message=FRAMES)
def test_percentages_and_times_mean_something(message: wire.HeartbeatRequest) -> None:
    """0 to 100, and between 2000 and a day from now or nothing."""
    vitals = frame_of(message).vitals

    assert all(
        0 <= share <= 100 for share in (vitals.cpu_percent, vitals.memory_percent, vitals.disk_percent)
    )
    assert vitals.reported_at_s == 0 or 946_684_800 <= vitals.reported_at_s <= NOW.timestamp() + 86_400


@given(messages=st.lists(st.one_of(FRAMES, st.just(wire.HeartbeatRequest())), max_size=4))
def test_facts_are_those_of_the_frame_at_hand_whatever_came_before_it(
    messages: list[wire.HeartbeatRequest],
) -> None:
    """Each frame twice: what is repeated is not read again, and nothing else is left out."""
    latest = convert.LatestFacts()

    for message in messages:
        facts = latest.of(message)
        assert convert.facts_of(message) == facts
        assert facts is latest.of(wire.HeartbeatRequest.FromString(message.SerializeToString())) or any(
            disk.percent_used != disk.percent_used for disk in message.disks
        )


def test_attack_terminal_escapes_and_hidden_text_are_taken_out() -> None:
    """What ends up in an operator's terminal cannot move its cursor or hide a name."""
    assert convert.clean_text("web\x1b[2J-1\u202e\u200b\0\n") == "web[2J-1"


def test_a_line_break_becomes_a_space() -> None:
    """One value is one line of a log."""
    assert convert.clean_text("a\r\nb\tc") == "a  b c"


def test_lists_have_an_end() -> None:
    """A host with a thousand disks is stored with the first 256."""
    message = wire.HeartbeatRequest(
        disks=[wire.DiskInfo(device=str(number)) for number in range(1_000)],
        network_interfaces=[wire.NetworkInterface(ip_addresses=["192.0.2.1"] * 1_000)] * 1_000,
    )
    facts = convert.facts_of(message)

    assert (256, 256) == (len(facts.disks), len(facts.interfaces))
    assert len(facts.interfaces[0].ip_addresses) == 64


def test_the_last_value_of_a_claimed_tag_wins_and_empty_keys_are_nothing() -> None:
    """At most 64 tags are looked at."""
    tags = [wire.Tag(key="role", value="a"), wire.Tag(key="\0", value="x"), wire.Tag(key="role", value="b")]
    many = [wire.Tag(key=str(number)) for number in range(200)]

    assert [("role", "b")] == [(tag.key, tag.value) for tag in convert.tags_of(tags)]
    assert len(convert.tags_of(many)) == 64


def applied(message: wire.RegisterRequest, *, proven: bool = False) -> Application:
    """Return the application of a connection that proved its key, or not."""
    return convert.application_of(
        message, address="192.0.2.9", is_proven=lambda _key: proven, leaf_agent_id=lambda _key: None
    )


def test_what_proves_a_key_and_names_an_agent_is_asked_about_the_registers_own_key() -> None:
    """A leaf of another key on the connection proves nothing about this one."""
    asked: list[str] = []

    def is_proven(key: PublicKey) -> bool:
        asked.append(key.key_id)
        return True

    application = convert.application_of(
        Host("web-1").request("tok_x"),
        address="192.0.2.9",
        is_proven=is_proven,
        leaf_agent_id=lambda key: f"agent of {key.key_id}",
    )

    assert [application.key_id] == asked
    assert (True, f"agent of {application.key_id}") == (application.key_is_proven, application.leaf_agent_id)
    assert application.observed_address == "192.0.2.9"


@pytest.mark.parametrize(
    ("said", "kept"), [("f" * 64, "f" * 64), ("f" * 63, ""), ("F" * 64, ""), ("\0" * 64, "")]
)
def test_a_machine_id_is_a_digest_or_nothing(said: str, kept: str) -> None:
    """A raw machine id, or anything else, is not kept."""
    message = Host("web-1").request("tok_x")
    message.machine_id = said

    assert kept == applied(message).machine_id


@pytest.mark.parametrize(
    ("said_ms", "sent_at_s", "skew"),
    [
        (-1_500, 0, timedelta(milliseconds=-1_500)),
        (0, 1, timedelta(0)),
        (None, int(NOW.timestamp()) + 90, timedelta(seconds=90)),
        (None, 0, None),
        (None, 2**62, None),
        (2**63 - 1, 0, timedelta(days=200 * 366)),
    ],
)
def test_clock_skew_is_what_the_agent_measured_or_what_its_frame_shows(
    said_ms: int | None, sent_at_s: int, skew: timedelta | None
) -> None:
    """Storable whatever it says."""
    message = wire.HeartbeatRequest(timestamp_unix=sent_at_s)
    if said_ms is not None:
        message.clock_skew_ms = said_ms

    assert skew == frame_of(message).clock_skew


def test_an_absurdly_long_token_is_refused_before_it_is_hashed() -> None:
    """As unknown: nobody ever issued it."""
    with pytest.raises(EnrolmentRefusedError) as caught:
        applied(Host("web-1").request("t" * 1_025))

    assert Refusal.TOKEN_UNKNOWN is caught.value.reason


def test_a_hostname_of_nothing_but_control_characters_is_none() -> None:
    """Refused with a sentence, for nobody could find such a host again."""
    with pytest.raises(Refused) as caught:
        applied(Host("\0\x1b\n").request("tok_x"))

    assert caught.value.reason == "hostname_missing"


def test_the_secret_is_not_in_an_applications_repr() -> None:
    """A traceback or a log line about it gives nothing away."""
    application = applied(Host("web-1").request("tok_secret"))

    assert "tok_secret" not in repr(application)

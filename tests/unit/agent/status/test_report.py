"""What the status file says."""

import json
from dataclasses import replace

import pytest

from ct_ops_agent.status.report import Report, State, format_time, parse_report, parse_time, to_json

REPORT = Report(
    pid=7,
    version="1.0",
    data_dir="/data",
    state=State.CONNECTED,
    since=1_000.0,
    written_at=2_000.0,
    hostname="web-1",
    agent_id="agent-1",
    features=("renewal",),
    acknowledged_at=1_999.0,
    clock_skew_s=-0.25,
)


def test_what_is_written_is_what_is_read() -> None:
    """Whole seconds and all fields survive the file."""
    assert REPORT == parse_report(to_json(REPORT))


def test_times_are_rfc_3339_in_utc() -> None:
    """As everywhere in this product; unknown ones are null."""
    document = json.loads(to_json(REPORT))

    assert ("1970-01-01T00:33:20Z", None) == (document["written_at"], document["leaf_not_after"])
    assert 0.0 == parse_time(format_time(0.0))


def test_a_report_of_another_version_is_read_as_far_as_known() -> None:
    """Unknown fields are ignored, missing ones are not known."""
    document = json.loads(to_json(REPORT)) | {"news": 1}
    del document["key_id"]

    assert REPORT == parse_report(json.dumps(document))


@pytest.mark.parametrize(
    "damage",
    [
        {"pid": "7"},
        {"state": "dancing"},
        {"since": None},
        {"since": "yesterday"},
        {"hostname": 5},
        {"features": 5},
        {"clock_skew_s": "x"},
        {"heartbeat_interval_s": None},
    ],
)
def test_a_damaged_report_is_none(damage: dict[str, object]) -> None:
    """A field of another kind makes the whole file worthless, not the reader fail."""
    assert parse_report(json.dumps(json.loads(to_json(REPORT)) | damage)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', to_json(REPORT)[:-20]])
def test_what_is_no_report_is_none(text: str) -> None:
    """Cut off, empty, something else."""
    assert parse_report(text) is None


def test_a_report_holds_no_secret() -> None:
    """Everybody may read it: there is no field for one."""
    names = set(json.loads(to_json(replace(REPORT, problem="p"))))

    assert not {name for name in names if "token" in name} - {"agent_token_expires_at"}

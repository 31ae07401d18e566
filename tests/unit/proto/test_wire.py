from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from descriptors import extension_table, incompatibilities, shape_of

PROTO = Path(__file__).parents[3] / "proto"
GOLDEN = PROTO / "golden" / "agent.v1.json"


def current() -> FileDescriptorProto:
    """Return the descriptors of the committed messages."""
    file = FileDescriptorProto()
    wire.DESCRIPTOR.CopyToProto(file)
    return file


def test_the_committed_messages_are_generated_from_the_committed_proto(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    subprocess.run([PROTO / "generate", sys.executable, tmp_path], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "ct_ops_proto/agent/v1").iterdir()}
    committed = {name: (PROTO / "src/ct_ops_proto/agent/v1" / name).read_text() for name in made}

    assert made == committed


def test_nothing_that_peers_rely_on_was_renumbered_retyped_or_removed() -> None:
    """Against the committed golden set."""
    assert incompatibilities(json.loads(GOLDEN.read_text()), shape_of(current())) == []


def test_the_golden_set_knows_everything_there_is() -> None:
    """After an addition: `make golden`, and look at the difference."""
    assert json.loads(GOLDEN.read_text()) == shape_of(current())


def renumber(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].number = 77


def retype(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].type = FieldDescriptorProto.TYPE_BYTES


def remove(file: FileDescriptorProto) -> None:
    del file.message_type[0].field[0]


def repeat(file: FileDescriptorProto) -> None:
    file.message_type[0].field[0].label = FieldDescriptorProto.LABEL_REPEATED


def unstream(file: FileDescriptorProto) -> None:
    file.service[0].method[1].client_streaming = False


@pytest.mark.parametrize("spoil", [renumber, retype, remove, repeat, unstream])
def test_a_change_that_breaks_peers_is_named(spoil: Callable[[FileDescriptorProto], None]) -> None:
    """Each kind of break is found, and nothing else."""
    before, after = current(), current()
    spoil(after)

    assert len(incompatibilities(shape_of(before), shape_of(after))) == 1


def test_an_addition_is_compatible() -> None:
    """Old peers ignore what they do not know."""
    after = current()
    after.message_type[0].field.add(
        name="more",
        number=199,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )

    assert incompatibilities(shape_of(current()), shape_of(after)) == []


EXISTING = {
    "RegisterRequest": "org_token public_key platform_info agent_info tags csr_der",
    "RegisterResponse": (
        "agent_id status message jwt_token client_cert_pem agent_ca_cert_pem client_cert_not_after_unix"
    ),
    "HeartbeatRequest": (
        "agent_id cpu_percent memory_percent disk_percent uptime_seconds timestamp_unix agent_version os_version "
        "disks network_interfaces os arch check_results query_results task_progress task_results "
        "pinned_server_cert_fingerprint"
    ),
    "HeartbeatResponse": (
        "ok command command_payload latest_version update_available download_url checks pending_queries "
        "pending_task cancel_task_ids pending_terminal_sessions cancel_terminal_sessions pending_client_cert_pem "
        "pending_client_cert_not_after_unix agent_ca_cert_pem pending_server_cert_pem"
    ),
    "SoftwareInventoryChunk": "scan_id agent_id source chunk_index is_last packages",
    "TerminalSessionRequest": "session_id cols rows username direct_access",
}


@pytest.mark.parametrize("message", EXISTING)
def test_fields_of_existing_peers_are_numbered_from_one_in_their_order(message: str) -> None:
    """Independent of the golden set: the numbers that are in the field."""
    fields = wire.DESCRIPTOR.message_types_by_name[message].fields
    theirs = {field.name: field.number for field in fields if field.number < 100}

    assert theirs == {name: number for number, name in enumerate(EXISTING[message].split(), start=1)}


def test_the_table_of_extension_fields_is_current() -> None:
    """proto/README.md lists every field of ours."""
    assert extension_table(current()) in (PROTO / "README.md").read_text()

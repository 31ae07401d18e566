"""Writes proto/golden from the committed messages: `make golden`, after an addition to the wire."""

from __future__ import annotations

import json
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from descriptors import shape_of

if __name__ == "__main__":
    file = FileDescriptorProto()
    wire.DESCRIPTOR.CopyToProto(file)
    target = Path(__file__).parent.parent / "proto" / "golden" / "agent.v1.json"
    target.write_text(json.dumps(shape_of(file), indent=1) + "\n")

"""Carried requests as a host makes them, and as somebody makes them who edits what is on the stick."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from ct_ops_proto.carried_enrolment import CarriedRequest, CarriedTag, request_text
from wire_client import Host, make_csr, raw_public_pem


def carried_request(
    host: Host, made_at: datetime, *, request_id: str = "a" * 32, machine_id: str = ""
) -> CarriedRequest:
    """Return a request, signed by the host's key."""
    unsigned = CarriedRequest(
        request_id=request_id,
        made_at_unix=int(made_at.timestamp()),
        public_key_pem=raw_public_pem(host.key),
        csr_der=make_csr(host.key),
        agent_version="1.0",
        hostname=host.hostname,
        os="linux",
        os_version="TestOS",
        arch="amd64",
        ip_addresses=("192.0.2.7",),
        tags=(CarriedTag("rack", "7"),),
        machine_id=machine_id,
    )
    return replace(unsigned, signature=host.key.sign(unsigned.signed_text()))


def edited(request: CarriedRequest, **changes: Any) -> str:
    """Return a request's file after somebody changed fields of it on the stick."""
    return json.dumps(json.loads(request_text(request)) | changes)

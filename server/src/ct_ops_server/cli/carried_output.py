"""What ``enrol sign`` prints: what was decided, and what to read out to whoever stands at the host.

A name of a file is quoted where it stands in a command: whoever had the stick chose it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct_ops_proto.carried_enrolment import fingerprint


def signed_lines(
    request: Path, reply: Path, answer: Mapping[str, Any], *, is_open_to_others: bool
) -> list[str]:
    """Return what to say of a request that was answered."""
    lines = [f"warning: {warning}" for warning in answer["warnings"]]
    if is_open_to_others:
        lines.append(
            f"warning: the file system of {reply} keeps no permissions: whoever can reach it can read the reply. "
            "It is of no use without the host's key"
        )
    again = " (again: it was answered before)" if answer["answered_before"] else ""
    return [
        *lines,
        f"{request}: {answer['hostname']} is agent {answer['agent_id']}{again}",
        f"  key            {fingerprint(bytes.fromhex(answer['key_id']))}",
        f"  server's CA    {fingerprint(bytes.fromhex(answer['ca_sha256']))}",
        f"  agents meet it at {' '.join(answer['addresses'])}",
        f"Carry {reply} to the host and type there, as root:",
        f"  ct-ops-agent enrol --reply {shlex.quote(reply.name)} --pin {answer['ca_sha256']}",
        "The agent shows the same two fingerprints; compare them by eye where the pin is not typed.",
    ]


def waiting_lines(request: Path, answer: Mapping[str, Any]) -> list[str]:
    """Return what to say of a host that waits for an approval."""
    evidence = f": {answer['evidence']}" if answer["evidence"] else ""
    is_quarantined = answer["status"] == "quarantined"
    state = "is in quarantine" if is_quarantined else "waits for approval"
    return [
        f"{request}: {answer['hostname']} {state} as agent {answer['agent_id']}{evidence}",
        f"  key            {fingerprint(bytes.fromhex(answer['key_id']))}",
        "No reply was written. Look at it, decide, and sign the same file again:",
        f"  ct-ops-server agent show {answer['agent_id']}",
        "  ct-ops-server clones list"
        if is_quarantined
        else f"  ct-ops-server agent approve {answer['agent_id']}",
    ]

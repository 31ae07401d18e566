"""The name in a leaf: ``spiffe://ct-ops/org/<installation>/agent/<agent id>``.

Existing servers put their organisation where we put the installation; the shape is the same, so
existing tools read ours. Both ids are path segments of the SPIFFE alphabet, which needs no
escaping: one name has one spelling, and comparing strings is comparing names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEGMENT = r"[A-Za-z0-9._-]{1,64}"
_ID = re.compile(_SEGMENT)
_URI = re.compile(rf"spiffe://ct-ops/org/(?P<installation>{_SEGMENT})/agent/(?P<agent>{_SEGMENT})")


@dataclass(frozen=True, slots=True)
class SpiffeName:
    """An agent's name: which installation it belongs to, and its agent id there."""

    installation_id: str
    agent_id: str


def format_uri(name: SpiffeName) -> str:
    """Return the URI. Raises ``ValueError`` for an id that would need escaping."""
    for part in (name.installation_id, name.agent_id):
        if not _ID.fullmatch(part):
            raise ValueError(f"{part!r} cannot be part of a SPIFFE id: 1 to 64 of A-Z a-z 0-9 . _ -")
    return f"spiffe://ct-ops/org/{name.installation_id}/agent/{name.agent_id}"


def parse_uri(uri: str) -> SpiffeName | None:
    """Return the name in ``uri``, None when it has another shape."""
    match = _URI.fullmatch(uri)
    return SpiffeName(match["installation"], match["agent"]) if match else None

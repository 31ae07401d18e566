"""What commands print for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ct_ops_server.cli.output import token_sheet

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SHEET: dict[str, Any] = {"id": "d8c5", "label": "web", "uses": 1, "tags": {}, "admitted": [], "refused": []}
ADMITTED = {"id": "a1", "hostname": "web-1", "status": "active", "admitted_at": "2026-11-26T11:58:00Z"}
REFUSED = {
    "last_at": "2026-11-26T11:59:30Z",
    "count": 12,
    "hostname": "db-1",
    "observed_address": "192.0.2.9",
    "reason": "token_hostname",
    "token_id": "d8c5",
    "what_to_do": "create one with another --hostname",
}


def test_a_token_that_nobody_has_used_is_a_few_lines() -> None:
    """No empty tables."""
    assert ["id", "label", "uses", "tags"] == [
        line.split()[0] for line in token_sheet(SHEET, NOW).splitlines()
    ]


def test_whom_a_token_admitted_and_whom_not_are_tables_with_what_to_do() -> None:
    """Readable at a glance, however many there are."""
    shown = token_sheet(SHEET | {"admitted": [ADMITTED], "refused": [REFUSED]}, NOW)

    assert (
        shown.partition("\n\n")[2]
        == """\
Admitted:
ID  HOSTNAME  STATUS  ADMITTED
a1  web-1     active  2m ago

Not admitted:
LAST     TIMES  HOSTNAME  ADDRESS    REASON          TOKEN
30s ago  12     db-1      192.0.2.9  token_hostname  d8c5

token_hostname: create one with another --hostname"""
    )

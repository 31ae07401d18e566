"""What ``clones list`` and ``agent split`` print."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ct_ops_server.cli.clones import clones_list, split_lines

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def side(**values: Any) -> dict[str, Any]:
    """Return a side as the admin API shows it."""
    return {
        "likely_original": False,
        "alive": True,
        "ours": True,
        "address": "192.0.2.1",
        "hostname": "web-1",
        "boot_id": "11eb5b9f-9502-4742-b193-a34c516ff310",
        "machine_id": "",
        "process_id": "505fbcded93569ef",
        "mac_addresses": ["52:54:00:00:00:0a"],
        "first_seen_at": "2026-01-01T11:00:00Z",
        "last_seen_at": "2026-01-01T11:59:00Z",
        "streams": 3,
    } | values


def test_no_clone_is_a_sentence() -> None:
    """And not an empty table."""
    assert "no agent is in quarantine" in clones_list([])


def test_a_clone_is_shown_with_its_sides_and_the_next_steps() -> None:
    """Who was probably first, who the copy is, and which process of before plays no part."""
    shown = clones_list(
        [
            {
                "id": "a1",
                "hostname": "web-1",
                "quarantined_at": "2026-01-01T11:59:30Z",
                "why": "two processes took the stream from each other",
                "sides": [
                    side(likely_original=True),
                    side(address="192.0.2.2"),
                    side(address="192.0.2.3", alive=False),
                ],
                "other_sides": 384,
            }
        ],
        NOW,
    )
    starts = [line.split()[0] for line in shown.splitlines()]

    assert ["web-1", "two", "SIDE", "original?", "copy?", "before", "and", "next:"] == starts[:8]
    for command in ("agent approve a1", "agent split a1", "agent revoke a1", "384 more"):
        assert command in shown


def test_a_split_says_what_is_left_to_do_on_each_host() -> None:
    """Ours end it themselves; an existing agent's data directory has to be deleted by somebody."""
    shown = split_lines(
        {
            "id": "a1",
            "hostname": "web-1",
            "status": "active",
            "kept": side(),
            "others": [
                side(address="192.0.2.2", hostname="web-2"),
                side(ours=False, address="192.0.2.3", hostname=""),
            ],
        }
    )
    lines = shown.splitlines()

    assert "is told to make a new key" in lines[1]
    assert "192.0.2.2 web-2; it makes a key of its own" in lines[2]
    assert "192.0.2.3; on that host: stop the agent, delete its data directory" in lines[3]

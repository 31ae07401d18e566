"""What `ca server` and a hurry print for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ct_ops_server.cli.authority_output import hurry_text
from ct_ops_server.cli.server_ca import server_ca_text

NOW = datetime(2035, 1, 1, tzinfo=UTC)


def ca(role: str, **more: Any) -> dict[str, Any]:
    """Return a server CA as the admin API shows it."""
    shown: dict[str, Any] = {
        "sha256": role * 20,
        "subject": f"CN={role}",
        "role": role,
        "not_after": "2035-07-01T00:00:00Z",
    }
    shown |= {"agents": 10, "believed_by": 7, "share": 0.7, "existing_agents": 0, "not_believed_by": []}
    return shown | more


def shown(*cas: dict[str, Any], **more: Any) -> str:
    """Return what is printed."""
    found: dict[str, Any] = {
        "pin_is_leaf": False,
        "problem": "",
        "nodes_behind": [],
        "activates_by_itself_at": None,
        "existing_agents_until": "2035-07-01T00:00:00Z",
    }
    return server_ca_text(found | {"authorities": list(cas)} | more, NOW)


def test_who_cannot_follow_is_named_with_the_day_on_which_that_matters() -> None:
    """Of the newest one: that is what the fleet has to believe."""
    text = shown(
        ca("signs", existing_agents=3),
        ca("next", existing_agents=3, not_believed_by=["a", "b"]),
        activates_by_itself_at="2035-04-02T00:00:00Z",
    )
    assert "7 of 10 (70%)" in text
    assert (
        "3 existing agents cannot learn another server CA; what they believe ends 2035-07-01 (181 days)"
        in text
    )
    assert "is not believed by: a, b" in text
    assert "signs by itself from 2035-04-02 on" in text


def test_a_certificate_without_a_ca_is_said() -> None:
    """Nothing can be announced then."""
    assert "INGEST_TLS_CERT holds no CA" in shown(pin_is_leaf=True)


def test_why_a_server_does_not_do_what_it_should_is_said() -> None:
    """Beside what there is."""
    assert "does not do what it should: it has another secret" in shown(
        ca("signs"), problem="it has another secret"
    )


def test_a_node_that_does_not_follow_is_named() -> None:
    """Retiring waits for it."""
    assert "act by the latest step: node-b" in shown(ca("signs"), nodes_behind=["node-b"])


def test_a_halted_hurry_says_who_is_missing() -> None:
    """Those are the hosts to look at."""
    hurry: dict[str, Any] = {
        "authority": "ab" * 32,
        "state": "halted",
        "reason": "3 agents are not back",
        "asked": 9,
        "back": 6,
    }
    hurry |= {"remaining": 40, "missing": ["a", "b", "c"], "left_alone_on_windows": 2}
    text = hurry_text(hurry)
    assert "halted (3 agents are not back)" in text
    assert "not back within 2 minutes: a, b, c" in text
    assert "2 existing agents on Windows" in text
    assert hurry_text(None) == "no hurry runs"

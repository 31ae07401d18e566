"""``ct-ops-server agent …`` and ``token …`` as processes, against a running server and against none."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ct_ops_server.config.schema import Settings
from prepared_commands import finished
from real_server import RealServer, real_server
from wire_client import Host


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed."""
        return json.loads(self.out)


async def ctl(settings: Settings, *arguments: str) -> Done:
    """Run a command of the operator's."""
    environ = {
        "PATH": os.environ["PATH"],
        "INGEST_DATA_DIR": str(settings.data_dir),
        "INGEST_PUBLIC_ADDRESS": "ct-ops.example:9443",
    }
    done = await finished("ct_ops_server", *arguments, environ=environ)
    return Done(done.returncode, done.stdout, done.stderr)


async def pending(server: RealServer, hostname: str) -> Host:
    """Return a host that waits for approval."""
    host = Host(hostname)
    await server.wire.register(host, await server.token(auto_approve=False))
    return host


async def test_approve_reject_and_revoke_decide_over_a_running_server(sqlite_server: RealServer) -> None:
    """By hostname, by id and by prefix; each prints the agent as it is afterwards."""
    settings = sqlite_server.settings
    good, bad = await pending(sqlite_server, "good"), await pending(sqlite_server, "bad")
    approved = await ctl(settings, "agent", "approve", "good", "--json")
    rejected = await ctl(settings, "agent", "reject", bad.agent_id, "--reason", "unknown host", "--json")
    revoked = await ctl(settings, "agent", "revoke", good.agent_id[:-2], "--reason", "lost", "--json")

    assert ["active", "revoked", "revoked"] == [done.json["status"] for done in (approved, rejected, revoked)]
    assert good.agent_id == revoked.json["id"]


async def test_an_agent_is_one_object_with_times_in_utc(sqlite_server: RealServer) -> None:
    """The keys that scripts rely on; a list is an array of such objects."""
    await pending(sqlite_server, "shape")
    listed = (await ctl(sqlite_server.settings, "agent", "list", "--json")).json
    shown = (await ctl(sqlite_server.settings, "agent", "show", "shape", "--json")).json

    assert {"id", "hostname", "status", "online", "last_seen_at"} <= set(listed[0]) & set(shown)
    assert ("shape", "pending", False) == (shown["hostname"], shown["status"], shown["online"])
    assert datetime.fromisoformat(shown["created_at"]).utcoffset() is not None


async def test_a_decision_that_does_not_fit_fails_with_a_sentence(sqlite_server: RealServer) -> None:
    """Exit code 1: nobody of that name, more than one of it, and a status that does not allow it."""
    settings = sqlite_server.settings
    await pending(sqlite_server, "twin")
    await pending(sqlite_server, "twin")
    host = await sqlite_server.enrolled("single")
    nobody = await ctl(settings, "agent", "revoke", "nobody")
    several = await ctl(settings, "agent", "show", "twin")
    already = await ctl(settings, "agent", "approve", host.agent_id)

    assert [1, 1, 1] == [done.code for done in (nobody, several, already)]
    assert "'nobody'" in nobody.err
    assert "more than one agent" in several.err
    assert "it is active" in already.err


async def test_only_the_owner_can_open_the_admin_socket(sqlite_server: RealServer) -> None:
    """Mode 0600 from its first moment."""
    mode = (sqlite_server.settings.data_dir / "admin.sock").stat().st_mode

    assert (True, 0o600) == (stat.S_ISSOCK(mode), stat.S_IMODE(mode))


async def test_what_was_decided_without_a_server_holds_when_it_runs_again(sqlite_settings: Settings) -> None:
    """The command opens the installation itself, as the owner of the data directory."""
    async with real_server(sqlite_settings) as before:
        host = await pending(before, "patient")
    approved = await ctl(sqlite_settings, "agent", "approve", "patient", "--json")
    made = await ctl(
        sqlite_settings, "token", "create", "--label", "l", "--auto-approve", "--expires", "5m", "--json"
    )
    async with real_server(sqlite_settings) as after:
        response = await after.wire.register(host, made.json["token"])

    assert (0, 0) == (approved.code, made.code)
    assert ("active", host.agent_id) == (response.status, approved.json["id"])

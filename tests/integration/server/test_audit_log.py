"""The audit log of a running server: what commands and hosts decide is in it, in its files, and verified offline."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ct_ops_server.audit.reading import DIRECTORY, audit_files, read_entries
from ct_ops_server.config.schema import Settings
from prepared_commands import finished
from real_server import operator, real_server
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
    environ = {"PATH": os.environ["PATH"], "INGEST_DATA_DIR": str(settings.data_dir)}
    done = await finished("ct_ops_server", *arguments, environ=environ, timeout_s=120)
    return Done(done.returncode, done.stdout, done.stderr)


def files_of(settings: Settings) -> Sequence[Path]:
    return audit_files(settings.data_dir / DIRECTORY)


async def test_decisions_of_a_running_server_are_listed_exported_and_verified(
    sqlite_settings: Settings, tmp_path: Path
) -> None:
    """Then somebody changes a byte of what was exported, and is found out."""
    async with real_server(sqlite_settings) as server:
        host = Host("audited")
        token = await server.token()
        await server.wire.register(host, token)
        revoked = await ctl(sqlite_settings, "agent", "revoke", "audited", "--reason", "stolen laptop")
        listed = await ctl(sqlite_settings, "audit", "list", "--agent", host.agent_id[:8], "--json")
        shown = await ctl(sqlite_settings, "audit", "list", "--action", "agent")
        exported = await ctl(sqlite_settings, "audit", "export", "-o", str(tmp_path / "out.jsonl"))
        stored = await ctl(sqlite_settings, "audit", "verify", "--database", "--json")

    key = ("--key", str(sqlite_settings.data_dir / "audit.pub"))
    whole = await ctl(sqlite_settings, "audit", "verify", str(tmp_path / "out.jsonl"), *key, "--json")
    text = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "changed.jsonl").write_text(text.replace("stolen laptop", "sold"))
    changed = await ctl(sqlite_settings, "audit", "verify", str(tmp_path / "changed.jsonl"), *key)
    files = await ctl(sqlite_settings, "audit", "verify")

    assert [0, 0, 0, 0, 0, 0] == [done.code for done in (revoked, listed, shown, exported, whole, files)], (
        files.err
    )
    assert ["agent.revoked", "agent.admitted"] == [entry["action"] for entry in listed.json]
    assert "stolen laptop" in shown.out
    assert whole.json["whole"]
    assert whole.json["signed_through"] == whole.json["last"] == stored.json["last"]
    assert 1 == changed.code
    assert "was changed" in changed.out
    assert "nothing was changed" in files.out
    assert token not in text + "".join(path.read_text() for path in files_of(sqlite_settings))


async def test_commands_without_a_server_are_in_the_files_too(sqlite_settings: Settings) -> None:
    """What is decided while no server runs, a token and the key of releases here, is not outside of the log."""
    made = await ctl(sqlite_settings, "token", "create", "--label", "quiet", "--json")
    key = await ctl(sqlite_settings, "release", "key", "init")
    entries = list(read_entries(files_of(sqlite_settings)))

    assert (0, 0, "") == (made.code, key.code, key.err)
    assert [("token.made", made.json["id"]), ("release.key_made", "")] == [
        (entry.action, entry.token) for entry in entries if entry.action != "audit_key.used"
    ][-2:]


async def test_attack_an_operator_who_says_to_be_another_one_is_recorded_as_himself(
    sqlite_settings: Settings,
) -> None:
    """The kernel knows who is connected; what he said stands beside it, and both find the entry."""
    async with real_server(sqlite_settings) as server:
        body = {"actor": "anna", "label": "forged", "auto_approve": True}
        await server.ask("POST", "/v1/tokens", body)
        himself = pwd.getpwuid(os.geteuid()).pw_name
        found = {
            name: (await ctl(sqlite_settings, "audit", "list", "--actor", name, "--json")).json
            for name in ("anna", himself, operator("anna"), "ann")
        }

    assert [operator("anna")] == [entry["actor"] for entry in found["anna"]]
    assert [1, 1, 1, 0] == [len(entries) for entries in found.values()]


async def test_a_lost_key_is_loud_and_what_it_signed_is_still_verified(
    sqlite_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The server goes on with a new one, says so, and the log shows that nobody vouched for it."""
    async with real_server(sqlite_settings) as server:
        await server.token()
    (sqlite_settings.data_dir / "audit.key").unlink()
    async with real_server(sqlite_settings) as server:
        await server.token(label="again")

    done = await ctl(sqlite_settings, "audit", "verify", "--json")
    keys = [entry for entry in read_entries(files_of(sqlite_settings)) if entry.action == "audit_key.used"]
    assert (0, True) == (done.code, done.json["whole"]), done.out
    assert done.json["signed_through"] == done.json["last"]
    assert [keys[1].subject] == [change["key"] for change in done.json["key_changes"]]
    assert keys[0].subject == keys[1].details["key_before"]
    assert ["ERROR"] == [record.levelname for record in caplog.records if "was gone" in record.message]


async def test_a_tail_cut_off_is_missed_by_the_head_beside_it(sqlite_settings: Settings) -> None:
    """Attack: the last lines of the last file go; the latest head is in a file of its own."""
    await ctl(sqlite_settings, "token", "create", "--label", "one")
    (path,) = files_of(sqlite_settings)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0])

    verified = await ctl(sqlite_settings, "audit", "verify", "--json")

    assert 1 == verified.code
    assert ["truncated"] == [found["fault"] for found in verified.json["findings"]]

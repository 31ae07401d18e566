"""``ct-ops-server db backup|restore`` as processes, as an operator runs them at three in the morning."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.entries import chained
from ct_ops_server.audit.lines import line_of
from ct_ops_server.audit.reading import audit_files, read_entries
from ct_ops_server.audit.verification import breaks
from ct_ops_server.config.schema import Settings
from prepared_commands import Started, start
from real_server import RealServer, real_server

_PATIENCE_S = 40


@dataclass(frozen=True)
class Night:
    """Where everything is."""

    settings: Settings
    folder: Path

    @property
    def file(self) -> Path:
        """The backup."""
        return self.folder / "night.backup"

    @property
    def temporary(self) -> Path:
        """Where the commands' temporary files are; short, since a server has a socket there."""
        return Path(tempfile.gettempdir(), f"night-{self.folder.name[-20:]}-{os.getpid()}")

    @property
    def audit(self) -> Path:
        """Where the audit files are kept, elsewhere."""
        return self.folder / "audit"

    async def db(self, *arguments: str) -> tuple[int, str]:
        """Run a command; return its exit code and everything it said."""
        process = await self.started(*arguments)
        said = await asyncio.wait_for(process.communicate(), 120)
        return process.returncode or 0, said.decode()

    async def started(self, *arguments: str) -> Started:
        """Start a command."""
        environ = {
            "PATH": os.environ["PATH"],
            "INGEST_DATA_DIR": str(self.settings.data_dir),
            "AGENT_DIST_DIR": str(self.settings.agent_dist_dir),
            "TMPDIR": str(self.temporary),
        }
        words = ("db", *arguments, "--passphrase-file", str(self.folder / "passphrase"))
        return await start("ct_ops_server", *words, environ=environ, with_errors=True)


@pytest.fixture
def night(tmp_path: Path, sqlite_settings: Settings) -> Iterator[Night]:
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    made = Night(sqlite_settings, tmp_path)
    made.temporary.mkdir()
    yield made
    shutil.rmtree(made.temporary)


async def until_in_the_files(server: RealServer, action: str) -> None:
    """Wait until the audit files, which follow the database, have a decision."""
    folder = server.settings.data_dir / "audit"
    async with asyncio.timeout(_PATIENCE_S):
        while action not in {entry.action for entry in read_entries(audit_files(folder))}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_night_and_a_morning(night: Night) -> None:
    """Backup under a running server, a revocation, the loss of the machine, and the way back by two files."""
    async with real_server(night.settings) as server:
        host, stays = await server.enrolled("leaves"), await server.enrolled("stays")
        made = await night.db("backup", "-o", str(night.file))
        await server.decide(host, "revoke")
        await until_in_the_files(server, "agent.revoked")
        under_it = await night.db("restore", str(night.file), "--forget-revocations", "--replace")
        shutil.copytree(night.settings.data_dir / "audit", night.audit)
    shutil.rmtree(night.settings.data_dir)
    blind = await night.db("restore", str(night.file))
    nothing_was_made = not night.settings.secret_file.exists()
    restored = await night.db("restore", str(night.file), "--audit", str(night.audit))
    async with real_server(night.settings) as server:
        statuses = {each["hostname"]: each["status"] for each in await server.ask("GET", "/v1/agents")}
        await until_in_the_files(server, "database.restored")
        entries = list(read_entries(audit_files(night.settings.data_dir / "audit")))

    assert made[0] == 0, made
    assert night.file.stat().st_mode & 0o777 == 0o600
    assert (69, True) == (under_it[0], "another ct-ops-server is using" in under_it[1])
    assert (1, True) == (blind[0], "--forget-revocations" in blind[1])
    assert nothing_was_made
    assert restored[0] == 0, restored
    assert "decided again since then: 1 revocations" in restored[1]
    assert {host.hostname: "revoked", stays.hostname: "active"} == statuses
    assert breaks(entries) == []
    assert {"database.backed_up", "agent.revoked", "database.restored"} <= {each.action for each in entries}


async def test_attack_files_that_were_cut_off_are_missed_by_a_head_that_was_kept(night: Night) -> None:
    """And a forged approval behind the end is named, and not believed: by the commands, as an operator has them."""
    async with real_server(night.settings) as server:
        host = await server.enrolled("leaves")
        await night.db("backup", "-o", str(night.file))
        await until_in_the_files(server, "database.backed_up")
        shutil.copytree(night.settings.data_dir / "audit", night.audit)
        await server.decide(host, "revoke")
    kept = night.folder / "head.json"
    shutil.copy(night.settings.data_dir / "audit" / "head.json", kept)
    path = audit_files(night.audit)[-1]
    last = [*read_entries([path])][-1]
    forged = chained([Decision(Action.AGENT_APPROVED, "anna", agent="his")], last.link, at_ms=last.at_ms)
    path.write_bytes(path.read_bytes() + b"".join(map(line_of, forged)))
    shutil.rmtree(night.settings.data_dir)
    restore = ("restore", str(night.file), "--audit", str(night.audit))
    missed = await night.db(*restore, "--head", str(kept))
    no_head = await night.db(*restore, "--head", str(night.folder / "passphrase"))
    done = await night.db(*restore)

    assert (1, True) == (missed[0], "a signed head says that it had another hash" in missed[1]), missed
    assert (2, True) == (no_head[0], "holds no signed head" in no_head[1])
    assert done[0] == 0, done
    assert (
        f"not believed: entry {forged[0].seq}, agent.approved of his by anna: no signed head reaches it"
        in done[1]
    )


async def test_a_drill_on_an_empty_machine_says_what_it_has_proven(night: Night) -> None:
    """To whoever looks at the mail of a timer."""
    async with real_server(night.settings) as server:
        await server.enrolled("web-1")
        await night.db("backup", "-o", str(night.file))
    shutil.rmtree(night.settings.data_dir)
    good = await night.db("restore", str(night.file), "--drill")

    assert good[0] == 0, good
    assert "proven: a server started with it, said that it is ready" in good[1]
    assert not night.settings.data_dir.exists()
    assert left_of_drills(night) == []


def left_of_drills(night: Night) -> list[Path]:
    """Return the folders of drills; each holds every secret of the installation."""
    return list(night.temporary.glob("ct-ops-drill-*"))


async def test_attack_nothing_is_left_of_a_drill_that_was_stopped(night: Night) -> None:
    """By a timer's limit, or whoever closed the terminal: the folder had every key in it, in the clear."""
    async with real_server(night.settings):
        await night.db("backup", "-o", str(night.file))
    process = await night.started("restore", str(night.file), "--drill")
    async with asyncio.timeout(_PATIENCE_S):
        while not left_of_drills(night):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    process.terminate()
    await asyncio.wait_for(process.communicate(), _PATIENCE_S)

    assert 128 + 15 == process.returncode
    assert left_of_drills(night) == []

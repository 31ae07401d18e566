"""The server's bundle: whole, the same twice, and an installer that refuses before it changes anything."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from make_server_bundle import build, lay_out
from tree import read_build

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "packaging/server/install-server.sh"


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    """Return a frozen folder with a program that only prints."""
    folder = tmp_path / "ct-ops-server-linux-amd64-v1.2.3"
    folder.mkdir()
    (folder / "ct-ops-server").write_text('#!/bin/sh\necho "#$*"\n')
    (folder / "ct-ops-server").chmod(0o755)
    said = {
        "version": "1.2.3",
        "architecture": "amd64",
        "glibc_floor": "2.36",
        "source_date_epoch": 1_700_000_000,
    }
    (folder / "BUILD.json").write_text(json.dumps(said))
    return folder


def test_every_file_is_in_the_checksums_and_they_are_right(frozen: Path, tmp_path: Path) -> None:
    """As `sha256sum -c` reads them, which the installer asks."""
    lay_out(frozen, read_build(frozen), tmp_path / "bundle")
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / "bundle", check=True)
    listed = set(re.findall(r"  (.+)$", (tmp_path / "bundle/SHA256SUMS").read_text(), re.MULTILINE))
    files = {
        str(path.relative_to(tmp_path / "bundle"))
        for path in (tmp_path / "bundle").rglob("*")
        if path.is_file()
    }

    assert listed == files - {"SHA256SUMS"}
    assert {"install-server.sh", "server.env", "own-files", "server/ct-ops-server"} < files
    assert (tmp_path / "bundle/ARCHITECTURE").read_text() == "x86_64\n"


def test_the_same_program_gives_the_same_bundle(frozen: Path, tmp_path: Path) -> None:
    """To the byte, and everything in it is root's."""
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        made.append(build(frozen, tmp_path / f"{name}-folder", tmp_path / name))
    with tarfile.open(made[0]) as tar:
        owners = {(member.uname, member.uid) for member in tar}

    assert made[0].read_bytes() == made[1].read_bytes()
    assert owners == {("root", 0)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frobnicate"], "--frobnicate is no option"),
        (["--public-address"], "needs HOST:PORT"),
        (["--public-address", "host:1\nDATABASE_URL=sqlite:////etc/shadow"], "no other characters"),
        (["--public-address", "$(reboot)"], "no other characters"),
    ],
)
def test_a_wrong_word_ends_the_installer_before_it_begins(words: list[str], said: str) -> None:
    """Also one that would say more than an address in the settings."""
    done = subprocess.run(["sh", SCRIPT, *words], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert said in done.stderr


def test_purge_knows_the_files_of_the_documented_data_directory() -> None:
    """What `docs/server.md` lists is what is removed by name."""
    page = (ROOT / "docs/server.md").read_text()
    table = page[page.index("## Files in the data directory") : page.index("## Commands")]
    documented = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    own = set((ROOT / "packaging/server/own-files").read_text().split())

    assert documented
    assert {name for name in documented if "/" not in name} <= own

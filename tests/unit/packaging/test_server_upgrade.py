"""An upgrade of the server begins only when there will be a way back, or somebody says that they have one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from programs import SERVER, filled

ROOT = Path(__file__).parents[3]
POSTGRESQL = "DATABASE_URL   postgresql://ops@db/ops   server.env"
SQLITE = "DATABASE_URL   sqlite:////var/lib/ct-ops/server/ct-ops.db   default"


def program(file: Path, says: str, *, then: str = "exit 0") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\ncase $1 in config) echo '{says}' ;; *) {then} ;; esac\n")
    file.chmod(0o755)
    return file


def asked(script: str, bin_folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the tools it needs and those of `bin_folder`, and no others."""
    bin_folder.mkdir(exist_ok=True)
    for tool in ("grep", "date", "dirname"):
        (bin_folder / tool).symlink_to(f"/usr/bin/{tool}")
    for name in ("id", "install"):
        program(bin_folder / name, "", then="echo 0")
    words = {"PATH": str(bin_folder), **environment}
    return subprocess.run(
        ["/bin/sh", "-c", script], env=words, capture_output=True, text=True, check=False, cwd=os.sep
    )


def checked(folder: Path, says: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Ask the installer's question alone: may this database be upgraded?"""
    program(folder / "bundle/server/ct-ops-server", says)
    script, found, _ = (
        (ROOT / "packaging/server/install-server.sh").read_text().rpartition("\ncase $action in")
    )
    assert found
    words = " ".join(options)
    return asked(
        f"set -- {words}\n{script}\nhere={folder}/bundle\ncheck_database\necho goes on", folder / "bin"
    )


def test_postgresql_without_a_client_is_refused_before_anything_stops(tmp_path: Path) -> None:
    """With what to install, and what to say instead."""
    done = checked(tmp_path, POSTGRESQL)

    assert done.returncode == 1
    assert "pg_dump" in done.stderr
    assert "--database-saved" in done.stderr
    assert "goes on" not in done.stdout


@pytest.mark.parametrize(("says", "options"), [(POSTGRESQL, ["--database-saved"]), (SQLITE, [])])
def test_a_database_that_somebody_saved_or_that_is_a_file_goes_on(
    tmp_path: Path, says: str, options: list[str]
) -> None:
    """No client is needed then."""
    assert checked(tmp_path, says, *options).stdout.endswith("goes on\n")


def test_postgresql_with_a_client_goes_on(tmp_path: Path) -> None:
    """It will be copied."""
    program(tmp_path / "bin/pg_dump", "")

    assert checked(tmp_path, POSTGRESQL).stdout.endswith("goes on\n")


def preinst(folder: Path, says: str, *, then: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the package's script as dpkg does before an upgrade from 1.0."""
    ours = program(folder / "usr/ct-ops-server", says, then=then)
    (folder / "data").mkdir()
    script = filled((ROOT / "packaging/deb/server-preinst").read_text(), SERVER.words())
    script = script.replace("/usr/bin/ct-ops-server", str(ours))
    script = script.replace("/var/lib/ct-ops/server", str(folder / "data"))
    return asked(f"set -- upgrade 1.0\n{script}", folder / "bin", **environment)


@pytest.mark.parametrize(("says", "kind"), [(POSTGRESQL, "dump"), (SQLITE, "db")])
def test_the_version_that_leaves_copies_its_database(tmp_path: Path, says: str, kind: str) -> None:
    """Named by itself, so that it is found when this version comes back."""
    done = preinst(tmp_path, says, then="exit 0")

    assert done.returncode == 0
    assert "/data/backups/before-leaving-1.0-" in done.stdout
    assert done.stdout.endswith(f".{kind}\n")


def test_the_package_does_not_come_without_a_copy(tmp_path: Path) -> None:
    """The reason is told, and how to go on."""
    done = preinst(tmp_path, POSTGRESQL, then='echo "pg_dump is not on this host" >&2; exit 1')

    assert done.returncode == 1
    assert "pg_dump is not on this host" in done.stderr
    assert "CT_OPS_DATABASE_SAVED=yes" in done.stderr


def test_the_package_comes_when_there_is_nothing_to_copy_or_somebody_has(tmp_path: Path) -> None:
    """No database yet, or a word of the operator."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    none = preinst(tmp_path / "one", SQLITE, then='echo "there is no database yet" >&2; exit 1')
    saved = preinst(tmp_path / "two", POSTGRESQL, then="exit 1", CT_OPS_DATABASE_SAVED="yes")

    assert (none.returncode, saved.returncode) == (0, 0)

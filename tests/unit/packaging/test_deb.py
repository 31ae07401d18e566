"""The Debian package: what is in it, that it is the same twice, and what purge may take along."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from make_deb import build, control
from programs import AGENT, filled
from tree import Built, packaged_unit, preview_first

from ct_ops_agent.checks.kept import FILE as CHECKS_NAME
from ct_ops_agent.delivery.opening import FILE_NAME as OUTBOX_NAME
from ct_ops_agent.identity.credentials import AGENT_CA_NAME, LEAF_NAME, STATE_NAME, TRUST_BUNDLE_NAME
from ct_ops_agent.identity.keystore import PRIVATE_KEY_NAME, PUBLIC_KEY_NAME
from ct_ops_agent.identity.rotation import NEXT_KEY_NAME, REQUEST_NAME
from ct_ops_agent.server_pin import SERVER_CERTIFICATE_NAME
from ct_ops_agent.status.place import STATUS_NAME
from ct_ops_agent.tasks.attempts import FILE as TASKS_NAME

ROOT = Path(__file__).parents[3]
BUILT = Built("1.2.3", "amd64", "2.30", 1_700_000_000)

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed here")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return an archive as freezing makes it, with a program that only prints."""
    folder = tmp_path / "ct-ops-agent-linux-amd64-v1.2.3"
    (folder / "_internal").mkdir(parents=True)
    (folder / "ct-ops-agent").write_text('#!/bin/sh\necho "$*"\n')
    (folder / "ct-ops-agent").chmod(0o755)
    (folder / "_internal" / "libz.so.1").write_bytes(b"\x7fELF")
    (folder / "_internal" / "libz.so.1").chmod(0o755)
    said = {
        "version": "1.2.3",
        "architecture": "amd64",
        "glibc_floor": "2.30",
        "source_date_epoch": BUILT.epoch,
    }
    (folder / "BUILD.json").write_text(json.dumps(said))
    component = {"name": "click", "version": "8.5", "licenses": [{"license": {"id": "BSD-3-Clause"}}]}
    (folder / "sbom.cdx.json").write_text(json.dumps({"components": [component]}))
    archive = tmp_path / f"{folder.name}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def built_package(archive: Path, scratch: Path) -> Path:
    scratch.mkdir()
    return build(AGENT, archive, scratch, scratch)


@needs_dpkg
def test_every_file_of_the_package_is_roots_and_where_policy_wants_it(archive: Path, tmp_path: Path) -> None:
    """Nothing under /usr/local or /var: the one is the administrator's, the other the program's at work."""
    package = built_package(archive, tmp_path / "one")
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    lines = {line.split()[5]: line.split() for line in listed.splitlines()}

    assert package.name == "ct-ops-agent_1.2.3_amd64.deb"
    assert {line[1] for line in lines.values()} == {"root/root"}
    assert lines["./etc/ct-ops/agent.toml"][0] == "-rw-r-----"
    assert lines["./usr/lib/ct-ops/agent/1.2.3/ct-ops-agent"][0] == "-rwxr-xr-x"
    assert lines["./usr/lib/ct-ops/agent/1.2.3/_internal/libz.so.1"][0] == "-rw-r--r--"
    assert lines["./usr/bin/ct-ops-agent"][7] == "../lib/ct-ops/agent/1.2.3/ct-ops-agent"
    assert "./usr/lib/systemd/system/ct-ops-agent.service" in lines
    assert not [name for name in lines if name.startswith(("./usr/local", "./var"))]


@needs_dpkg
def test_the_same_archive_gives_the_same_package(archive: Path, tmp_path: Path) -> None:
    """To the byte."""
    one, other = (built_package(archive, tmp_path / name) for name in ("one", "other"))

    assert one.read_bytes() == other.read_bytes()


@needs_dpkg
def test_the_maintainer_scripts_are_shell_without_a_word_left_open(archive: Path, tmp_path: Path) -> None:
    """As `sh -n` reads them, with every @WORD@ replaced."""
    package = built_package(archive, tmp_path / "one")
    subprocess.run(["dpkg-deb", "-e", package, tmp_path / "control"], check=True)
    assert not (tmp_path / "control" / "preinst").exists()  # the server's alone
    for name in ("postinst", "prerm", "postrm"):
        script = tmp_path / "control" / name
        subprocess.run(["sh", "-n", script], check=True)
        assert "@" not in script.read_text()

    assert (tmp_path / "control" / "conffiles").read_text() == "/etc/ct-ops/agent.toml\n"


def test_the_package_wants_the_c_library_that_was_built_against() -> None:
    """And a systemd, which makes the user."""
    said = control(AGENT, BUILT, 50_000)

    assert "Depends: libc6 (>= 2.30), systemd," in said
    assert "Installed-Size: 50000\n" in said


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("1.2.3", "1.2.3"), ("1.2.3rc1", "1.2.3~rc1"), ("1.2.dev4", "1.2~dev4"), ("2.0b1", "2.0~b1")],
)
def test_a_preview_comes_before_its_release(ours: str, theirs: str) -> None:
    """For dpkg and rpm 1.0rc1 were newer than 1.0."""
    assert preview_first(ours) == theirs


def test_the_packaged_unit_starts_the_packaged_program() -> None:
    """It is the unit of every other installation, but for the place."""
    ours = (ROOT / "systemd" / AGENT.unit).read_text()
    packaged = packaged_unit(ours)

    assert "\nExecStart=/usr/bin/ct-ops-agent run " in packaged
    assert packaged.replace("/usr/bin/", "/usr/local/bin/") == ours
    with pytest.raises(ValueError, match="expected to start"):
        packaged_unit("[Service]\nExecStart=/opt/other\n")


def test_a_recipe_with_an_unknown_word_is_no_recipe() -> None:
    """Rather than a package with an @ in a path."""
    assert filled("a @NAME@ at x@example.com", AGENT.words()) == "a ct-ops-agent at x@example.com"
    with pytest.raises(ValueError, match="@NAMES@"):
        filled("@NAMES@", AGENT.words())


def test_purge_takes_what_an_agent_makes_and_leaves_everything_else(tmp_path: Path) -> None:
    """The server's keys may lie next to it, and somebody's notes among its files."""
    data = tmp_path / "agent"
    data.mkdir()
    ours = (
        *(AGENT_CA_NAME, LEAF_NAME, STATE_NAME, TRUST_BUNDLE_NAME, PRIVATE_KEY_NAME, PUBLIC_KEY_NAME),
        *(NEXT_KEY_NAME, REQUEST_NAME, SERVER_CERTIFICATE_NAME, STATUS_NAME, CHECKS_NAME, TASKS_NAME),
        *(OUTBOX_NAME, f"{OUTBOX_NAME}-wal", f".{STATE_NAME}.4711.new"),
    )
    for name in (*ours, "notes.txt"):
        (data / name).touch()
    own = " ".join((ROOT / "packaging/agent/own-files").read_text().split())
    script = filled((ROOT / "packaging/deb/postrm").read_text(), {**AGENT.words(), "OWN_FILES": own})
    script = script.replace("/var/lib/ct-ops", str(tmp_path)).replace("/etc/ct-ops", str(tmp_path / "etc"))
    script = script.replace("/usr/lib/ct-ops", str(tmp_path / "lib")).replace("deb-systemd-helper", "true")
    script = script.replace("userdel ct-ops", "false")
    subprocess.run(["sh", "-c", script, "postrm", "purge"], check=True)

    assert [path.name for path in data.iterdir()] == ["notes.txt"]

"""The files of a package, as they will be on the host: what deb and rpm have in common.

::

    /usr/lib/ct-ops/ROLE/VERSION/       the frozen folder, unchanged
    /usr/bin/NAME                       a link into it
    /usr/lib/systemd/system/NAME.service, /usr/lib/sysusers.d/NAME.conf, /usr/lib/tmpfiles.d/NAME.conf
    /etc/ct-ops/CONFIGURATION           the sample: every key with its default, commented out
    /usr/share/man/man1/NAME.1.gz, /usr/share/doc/NAME/

The frozen folder and the units are those of every other way to install. One thing differs: what a package
brings belongs under /usr, and /usr/local to the administrator, so the unit names /usr/bin/NAME.

Everything is dated by the frozen folder's own epoch, so that the same archive gives the same package.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from manual import manual_page
from programs import ROOT, Program, filled
from third_party import copyright_text

_ADMINISTRATORS = "/usr/local/bin/"
_PACKAGES = "/usr/bin/"

PRIVATE_MODE = 0o640
"""Of the configuration: an operator may have put a secret into it."""


@dataclass(frozen=True)
class Built:
    """What the frozen folder says about itself, in BUILD.json."""

    version: str
    architecture: str
    glibc_floor: str
    epoch: int


def read_build(folder: Path) -> Built:
    """Read what was frozen."""
    said = json.loads((folder / "BUILD.json").read_text())
    return Built(said["version"], said["architecture"], said["glibc_floor"], said["source_date_epoch"])


def unpack(archive: Path, scratch: Path) -> Path:
    """Unpack a frozen program; return its one folder."""
    with tarfile.open(archive) as opened:
        opened.extractall(scratch, filter="data")
    (folder,) = scratch.iterdir()
    return folder


def stage(program: Program, frozen: Path, root: Path) -> None:
    """Lay the files of a package out under `root`."""
    built = read_build(frozen)
    own = root / "usr/lib/ct-ops" / program.role / built.version
    shutil.copytree(frozen, own, symlinks=True)
    for file in own.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.name != program.name:
            file.chmod(0o644)  # libraries are read, not run
    link = root / "usr/bin" / program.name
    link.parent.mkdir(parents=True)
    link.symlink_to(Path("../lib/ct-ops") / program.role / built.version / program.name)
    _stage_units(program, root)
    write(root / "etc/ct-ops" / program.configuration, printed_sample(program, frozen), mode=PRIVATE_MODE)
    _stage_documents(program, frozen, root)
    _date(root, built.epoch)


def printed_sample(program: Program, frozen: Path) -> str:
    """Return the sample of the configuration, as the frozen program prints it."""
    return _printed(frozen / program.name, *program.sample)


def packaged_unit(text: str) -> str:
    """Return a unit as a package brings it.

    Raises:
        ValueError: it starts something else than its program in the administrator's place.
    """
    if text.count(f"\nExecStart={_ADMINISTRATORS}") != 1:
        raise ValueError(f"a unit is expected to start its program from {_ADMINISTRATORS}, once")
    return text.replace(_ADMINISTRATORS, _PACKAGES)


def preview_first(version: str) -> str:
    """Return a version so that dpkg and rpm put its previews before it: 1.0rc1 is 1.0~rc1."""
    for mark in ("rc", "b", "a", ".dev"):
        head, found, tail = version.partition(mark)
        if found:
            return f"{head}~{mark.lstrip('.')}{tail}"
    return version


def write(file: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write one file of the package, with its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)


def compressed(text: str) -> bytes:
    """Return what a policy wants compressed, the same bytes for the same text."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def _stage_units(program: Program, root: Path) -> None:
    systemd = ROOT / "systemd"
    unit = packaged_unit((systemd / program.unit).read_text())
    write(root / "usr/lib/systemd/system" / program.unit, unit)
    users = (systemd / f"{program.name}.sysusers.conf").read_text()
    write(root / "usr/lib/sysusers.d" / f"{program.name}.conf", users)
    folders = filled((ROOT / "packaging" / program.role / "tmpfiles.conf").read_text(), program.words())
    write(root / "usr/lib/tmpfiles.d" / f"{program.name}.conf", folders)


def _stage_documents(program: Program, frozen: Path, root: Path) -> None:
    page = manual_page(program, read_build(frozen).epoch, _printed(frozen / program.name, "--help"))
    write(root / "usr/share/man/man1" / f"{program.name}.1.gz", compressed(page))
    write(root / "usr/share/doc" / program.name / "copyright", copyright_text(frozen))


def _printed(*command: str | Path) -> str:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "COLUMNS": "80", "HOME": "/nonexistent"}
    words = [str(word) for word in command]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def _date(root: Path, epoch: int) -> None:
    for path in (root, *root.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)

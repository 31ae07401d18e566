"""Make the Debian package of a frozen program: ``make deb``.

Plain ``dpkg-deb`` on a staged tree: there is nothing to compile, and debhelper would only have to be told so.
The maintainer scripts in deb/ are what debhelper's would do, plus what purge may remove.
The package is the same bytes for the same archive and the same dpkg.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import tempfile
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from programs import PROGRAMS, ROOT, Program, filled
from tree import Built, compressed, preview_first, read_build, stage, unpack, write

RECIPE = ROOT / "packaging/deb"
MAINTAINER = os.environ.get("MAINTAINER", "CT-Ops <maintainers@ct-ops.invalid>")
"""Whoever distributes the package says who that is."""

_SCRIPTS = ("postinst", "prerm", "postrm")
_OF_ONE = ("preinst",)
"""Scripts that one program may have: a recipe ``ROLE-NAME``."""


def main() -> None:
    """Build from the archive that the command line names."""
    parser = argparse.ArgumentParser(description="Make a Debian package.")
    parser.add_argument("archive", type=Path, help="the frozen program, .tar.xz or .tar.gz")
    parser.add_argument("--program", choices=PROGRAMS, default="agent", help="which (default: agent)")
    parser.add_argument("--output", type=Path, help="the folder for it (default: the archive's)")
    parser.add_argument("--fast", action="store_true", help="larger, for a trial")
    arguments = parser.parse_args()
    output = arguments.output or arguments.archive.parent
    kind = "gzip" if arguments.fast else "xz"
    with tempfile.TemporaryDirectory(prefix="ct-ops-deb-") as scratch:
        print(build(PROGRAMS[arguments.program], arguments.archive, Path(scratch), output, kind))


def build(program: Program, archive: Path, scratch: Path, output: Path, kind: str = "xz") -> Path:
    """Build one package; return its file."""
    (scratch / "frozen").mkdir()
    frozen = unpack(archive, scratch / "frozen")
    built = read_build(frozen)
    root = scratch / "root"
    stage(program, frozen, root)
    _add_documents(program, built, root)
    _add_control(program, built, root)
    package = output / f"{program.name}_{preview_first(built.version)}_{built.architecture}.deb"
    pack(root, package, built.epoch, kind)
    return package


def control(program: Program, built: Built, size_kib: int) -> str:
    """Return the package's description."""
    described = "\n".join(f" {line}" for line in program.description.splitlines())
    return (
        f"Package: {program.name}\n"
        f"Version: {preview_first(built.version)}\n"
        f"Architecture: {built.architecture}\n"
        f"Maintainer: {MAINTAINER}\n"
        f"Installed-Size: {size_kib}\n"
        f"Depends: libc6 (>= {built.glibc_floor}), systemd, init-system-helpers (>= 1.54)\n"
        "Section: admin\n"
        "Priority: optional\n"
        f"Description: {program.summary}\n{described}\n"
    )


def pack(root: Path, package: Path, epoch: int, kind: str) -> None:
    """Run dpkg-deb: root's files, one thread, because the number of threads shows in the bytes."""
    level = ("-z1",) if kind == "gzip" else ()  # nobody keeps what is made for a trial
    options = ("--root-owner-group", f"-Z{kind}", *level, "--threads-max=1")
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(
        ["dpkg-deb", *options, "--build", str(root), str(package)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def _add_documents(program: Program, built: Built, root: Path) -> None:
    when = format_datetime(datetime.fromtimestamp(built.epoch, tz=UTC))
    changes = (
        f"{program.name} ({preview_first(built.version)}) unstable; urgency=medium\n\n"
        f"  * Release {built.version}: what changed is said in CHANGELOG.md of the release.\n\n"
        f" -- {MAINTAINER}  {when}\n"
    )
    write(root / "usr/share/doc" / program.name / "changelog.gz", compressed(changes))
    overrides = filled((RECIPE / "lintian-overrides").read_text(), program.words())
    write(root / "usr/share/lintian/overrides" / program.name, overrides)


def _add_control(program: Program, built: Built, root: Path) -> None:
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    size_kib = sum(-(-path.stat().st_size // 1024) for path in files)
    sums = [f"{_md5(path)}  {path.relative_to(root)}\n" for path in files if not _is_conffile(path, root)]
    folder = root / "DEBIAN"
    write(folder / "control", control(program, built, size_kib))
    write(folder / "md5sums", "".join(sums))
    write(folder / "conffiles", f"/etc/ct-ops/{program.configuration}\n")
    own = " ".join((ROOT / "packaging" / program.role / "own-files").read_text().split())
    words = {**program.words(), "OWN_FILES": own}
    for script, recipe in _scripts(program).items():
        write(folder / script, filled(recipe.read_text(), words), mode=0o755)


def _scripts(program: Program) -> dict[str, Path]:
    own = {script: RECIPE / f"{program.role}-{script}" for script in _OF_ONE}
    return {script: RECIPE / script for script in _SCRIPTS} | {
        script: recipe for script, recipe in own.items() if recipe.exists()
    }


def _is_conffile(path: Path, root: Path) -> bool:
    return path.is_relative_to(root / "etc")


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    main()

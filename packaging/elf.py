"""What is read from, and taken out of, programs and libraries."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SYMBOL_VERSION = re.compile(rb"GLIBC_(\d+)\.(\d+)")


def elf_files(folder: Path) -> Iterator[Path]:
    """Find every program and library."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and _starts_with(file, b"\x7fELF"):
            yield file


def remove_search_paths(patchelf: Path, file: Path) -> None:
    """Take RUNPATH and RPATH out."""
    subprocess.run([patchelf, "--remove-rpath", file], check=True)


def glibc_floor(folder: Path) -> tuple[int, int]:
    """Return the oldest C library that has every symbol version that anything in the folder asks for."""
    found = [
        (int(major), int(minor))
        for file in elf_files(folder)
        for major, minor in _SYMBOL_VERSION.findall(file.read_bytes())
    ]
    return max(found)


def _starts_with(file: Path, magic: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(magic)) == magic

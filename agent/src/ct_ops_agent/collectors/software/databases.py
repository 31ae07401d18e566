"""Package databases that are text: dpkg, pacman and apk. Parsers are pure; readers know the paths.

* dpkg: paragraphs of ``Field: value`` in ``/var/lib/dpkg/status``, in distroless images one file each in
  ``status.d``. What has its files on the host counts, also while it waits to be configured or for a trigger
  of another package. Not what left its configuration behind, and not what is "half-installed": unpacking or
  removing it broke off, dpkg itself does not know which files are there, and asks to install it again. dpkg
  does not write down when: the age of its file list says it.
* pacman: ``%FIELD%`` and lines below it, a folder each (``desc``).
* apk: one-letter fields in ``/lib/apk/db/installed``, paragraphs as well.

They are read as `lines`: a database of any size takes little memory, and one that is no database has an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ct_ops_agent.collectors.software.lines import Lines
from ct_ops_agent.collectors.software.model import Package, Packages

_ON_THE_HOST = ("installed", "triggers-pending", "triggers-awaited", "half-configured", "unpacked")


def parse_paragraphs(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a text; of a field that goes on in further lines the first line counts."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line.strip(" \t\r"):
            if fields:
                yield fields
            fields = {}
        elif line[0] not in " \t":
            name, colon, value = line.partition(":")
            if colon:
                fields.setdefault(name, value.strip())
    if fields:
        yield fields


def parse_desc(lines: Iterable[str]) -> dict[str, str]:
    """Return the fields of pacman's ``desc``; the first line of each counts."""
    fields: dict[str, str] = {}
    rest = iter(lines)
    for line in rest:
        name = line.rstrip("\r")
        if len(name) > 2 and name.startswith("%") and name.endswith("%"):
            fields.setdefault(name[1:-1], next(rest, "").strip())
    return fields


def read_dpkg(root: Path, lines: Lines | None = None) -> Packages | None:
    """Return dpkg's packages, None when it is not here."""
    lines = lines or Lines("dpkg")
    folder = root / "var/lib/dpkg"
    parts = [folder / "status"] if (folder / "status").exists() else []
    if (folder / "status.d").is_dir():
        parts += sorted(
            part for part in (folder / "status.d").iterdir() if not part.name.endswith(".md5sums")
        )
    if not parts:
        return None
    paragraphs = (fields for part in parts for fields in parse_paragraphs(lines.of(part)))
    found = [_of_dpkg(folder, fields) for fields in paragraphs if _is_installed(fields)]
    return Packages("dpkg", found)


def read_pacman(root: Path, lines: Lines | None = None) -> Packages | None:
    """Return pacman's packages, None when it is not here."""
    lines = lines or Lines("pacman")
    folder = root / "var/lib/pacman/local"
    if not folder.is_dir():
        return None
    fields = (parse_desc(lines.of(desc)) for desc in sorted(folder.glob("*/desc")))
    return Packages("pacman", [_of_pacman(each) for each in fields if "NAME" in each])


def read_apk(root: Path, lines: Lines | None = None) -> Packages | None:
    """Return apk's packages, None when it is not here."""
    lines = lines or Lines("apk")
    path = next(
        (
            path
            for path in (root / "lib/apk/db/installed", root / "usr/lib/apk/db/installed")
            if path.exists()
        ),
        None,
    )
    if path is None:
        return None
    return Packages("apk", [_of_apk(fields) for fields in parse_paragraphs(lines.of(path)) if "P" in fields])


def _is_installed(fields: dict[str, str]) -> bool:
    # Images without a package manager have no Status: what is listed is there.
    state = fields.get("Status", "installed").rpartition(" ")[2]
    return "Package" in fields and state in _ON_THE_HOST


def _of_dpkg(folder: Path, fields: dict[str, str]) -> Package:
    name, architecture = fields["Package"], fields.get("Architecture", "")
    return Package(
        name,
        fields.get("Version", ""),
        architecture,
        fields.get("Maintainer", ""),
        _changed_at(folder / "info" / f"{name}.list", folder / "info" / f"{name}:{architecture}.list"),
    )


def _of_pacman(fields: dict[str, str]) -> Package:
    at = fields.get("INSTALLDATE", "")
    return Package(
        fields["NAME"],
        fields.get("VERSION", ""),
        fields.get("ARCH", ""),
        fields.get("PACKAGER", ""),
        int(at) if at.isdecimal() and len(at) < 12 else 0,
    )


def _of_apk(fields: dict[str, str]) -> Package:
    return Package(fields["P"], fields.get("V", ""), fields.get("A", ""), fields.get("m", ""))


def _changed_at(*lists: Path) -> int:
    for each in lists:
        try:
            return int(each.stat().st_mtime)
        except OSError:
            continue
    return 0

"""Package databases that are text: dpkg, pacman and apk. Parsers are pure; readers know the paths.

* dpkg: paragraphs of ``Field: value`` in ``/var/lib/dpkg/status``, in distroless images one file each in
  ``status.d``; only what is "installed" counts, not what left its configuration behind. dpkg does not write
  down when: the age of its file list says it.
* pacman: ``%FIELD%`` and lines below it, a folder each (``desc``).
* apk: one-letter fields in ``/lib/apk/db/installed``, paragraphs as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ct_ops_agent.collector import CollectorError
from ct_ops_agent.collectors.software.model import Package, Packages


def parse_paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a text; of a field that goes on in further lines the first line counts."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[0] not in " \t":
            name, colon, value = line.partition(":")
            if colon:
                fields.setdefault(name, value.strip())
    if fields:
        yield fields


def parse_desc(text: str) -> dict[str, str]:
    """Return the fields of pacman's ``desc``; the first line of each counts."""
    fields: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if len(line) > 2 and line.startswith("%") and line.endswith("%"):
            fields.setdefault(line[1:-1], next(lines, "").strip())
    return fields


def read_dpkg(root: Path) -> Packages | None:
    """Return dpkg's packages, None when it is not here."""
    folder = root / "var/lib/dpkg"
    parts = [folder / "status"] if (folder / "status").exists() else []
    if (folder / "status.d").is_dir():
        parts += sorted(
            part for part in (folder / "status.d").iterdir() if not part.name.endswith(".md5sums")
        )
    if not parts:
        return None
    paragraphs = (fields for part in parts for fields in parse_paragraphs(_read(part)))
    found = [_of_dpkg(folder, fields) for fields in paragraphs if _is_installed(fields)]
    return Packages("dpkg", found)


def read_pacman(root: Path) -> Packages | None:
    """Return pacman's packages, None when it is not here."""
    folder = root / "var/lib/pacman/local"
    if not folder.is_dir():
        return None
    fields = (parse_desc(_read(desc)) for desc in sorted(folder.glob("*/desc")))
    return Packages("pacman", [_of_pacman(each) for each in fields if "NAME" in each])


def read_apk(root: Path) -> Packages | None:
    """Return apk's packages, None when it is not here."""
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
    return Packages("apk", [_of_apk(fields) for fields in parse_paragraphs(_read(path)) if "P" in fields])


def _is_installed(fields: dict[str, str]) -> bool:
    # Images without a package manager have no Status: what is listed is there.
    return "Package" in fields and fields.get("Status", "ok installed").endswith("ok installed")


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


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise CollectorError(f"{path} cannot be read: {error.strerror}") from error

"""What a frozen program consists of besides ourselves, for the package's copyright file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_HEAD = """\
CT-Ops: an agent for every host of an organisation, and the server it reports to.

Copyright: the authors of CT-Ops.
License: as agreed with whoever gave you this package.

The program was frozen with PyInstaller, whose loader (GPL-2.0-or-later) may be shipped with any program by
its exception; with Python (PSF-2.0) and the libraries of its build host: OpenSSL (Apache-2.0), zlib (Zlib),
bzip2 (bzip2-1.0.6), xz (public domain), expat and libffi (MIT), libuuid (BSD-3-Clause), libgcc and libstdc++
(GPL-3.0-or-later with the GCC Runtime Library Exception). On Debian the texts of the GPL are
/usr/share/common-licenses/GPL-2 and /usr/share/common-licenses/GPL-3.

These packages are part of it, as sbom.cdx.json beside the program says, each under its own license; their
license files are in licenses.txt there:

"""

_LICENSE_NAMES = ("LICEN", "COPYING", "NOTICE", "AUTHORS")


def copyright_text(frozen: Path) -> str:
    """Return the copyright file."""
    bom = json.loads((frozen / "sbom.cdx.json").read_text())
    lines = [
        f"  {one['name']} {one['version']}: {_license(one.get('licenses'))}" for one in bom["components"]
    ]
    return _HEAD + "\n".join(lines) + "\n"


def license_texts(environment: Path) -> str:
    """Return the license files of every package of an environment, each under its name."""
    found = sorted(
        path
        for metadata in environment.glob("lib/python*/site-packages/*.dist-info")
        for path in metadata.rglob("*")
        if path.is_file() and path.name.upper().startswith(_LICENSE_NAMES)
    )
    return "\n".join(f"{'=' * 72}\n{_package_of(path)}: {path.name}\n\n{_text_of(path)}" for path in found)


def _package_of(path: Path) -> str:
    metadata = next(parent for parent in path.parents if parent.suffix == ".dist-info")
    return metadata.stem.replace("-", " ")


def _text_of(path: Path) -> str:
    return path.read_text(errors="replace").strip("\n") + "\n"


def _license(said: Sequence[Mapping[str, Any]] | None) -> str:
    for one in said or ():
        named = one.get("license", {})
        if name := one.get("expression") or named.get("id") or named.get("name"):
            return str(name)
    return "see its license file"

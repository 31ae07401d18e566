"""Archives that are the same bytes for the same folder."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

_XZ_PRESET = 9


def pack(folder: Path, stem: str, output: Path, kind: str, epoch: int) -> Path:
    """Write one archive: sorted, root's, dated by the epoch."""
    archive = output / f"{stem}.tar.{kind}"

    def normal(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = epoch
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with tempfile.TemporaryFile() as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path in (folder, *sorted(folder.rglob("*"))):
                name = Path(stem) / path.relative_to(folder)
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


def sha256_of(file: Path) -> str:
    """Return the digest in lower-case hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

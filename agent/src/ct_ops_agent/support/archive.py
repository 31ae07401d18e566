"""The archive: every part through the gate, and a manifest that says what is in it and what could not be had."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ct_ops_agent.status.report import format_time
from ct_ops_agent.support.masking import Masking

_PRIVATE = 0o600
MANIFEST = "manifest.json"


def gather(parts: Mapping[str, Callable[[], str]], gate: Masking) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the files, masked, and why others could not be had.

    A part that fails costs itself only: a bundle is made when something is wrong.
    """
    files, failed = {}, {}
    for name, make in parts.items():
        try:
            text = make()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a host
            failed[name] = gate.mask_log(f"{type(error).__name__}: {error}")
            continue
        files[name] = (gate.mask_log(text) if name.endswith(".log") else gate.mask(text)).encode()
    return files, failed


def manifest(
    files: Mapping[str, bytes], failed: Mapping[str, str], about: Mapping[str, Any], now: float
) -> bytes:
    """Return the list of what is in the archive, with digests."""
    listed = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    }
    document = {**about, "made_at": format_time(now), "files": listed, "could_not_be_had": dict(failed)}
    return (json.dumps(document, indent=2) + "\n").encode()


def write_archive(path: Path, folder: str, files: Mapping[str, bytes], now: float) -> None:
    """Write the archive, readable by its owner alone, whole or not at all.

    Raises:
        FileExistsError: something is there already.
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as tar:
                for name, data in sorted(files.items()):
                    member = tarfile.TarInfo(f"{folder}/{name}")
                    member.size, member.mtime, member.mode = len(data), int(now), _PRIVATE
                    tar.addfile(member, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, a link never replaces
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()

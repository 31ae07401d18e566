"""Versions of what the agent stands on."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ct_ops_agent import __version__

_PACKAGES = ("cryptography", "grpcio", "httpx", "msgspec", "protobuf", "psutil")


def versions() -> dict[str, Any]:
    """Return what runs here; what cannot be told is ``null``."""
    return {
        "agent": __version__,
        "frozen": bool(getattr(sys, "frozen", False)),
        "program": sys.executable,
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "libc": " ".join(platform.libc_ver()) or None,
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "system": _os_release(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "user": os.geteuid(),
    }


def _os_release() -> str | None:
    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # a frozen agent carries no metadata of others
        return None


def build_description() -> str:
    """Return what the frozen agent says of itself, empty when this is none."""
    try:
        return (Path(sys.executable).resolve().parent / "BUILD.json").read_text(encoding="utf-8")
    except OSError:
        return ""

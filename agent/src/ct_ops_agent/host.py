"""The host itself: what stays true between two heartbeats.

Operating system, architecture, version, host name and boot id. Names follow the wire: ``linux``,
``darwin``, ``windows`` and ``amd64``, ``arm64``. What moves (load, memory, disks) is in `vitals`.
"""

import platform
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from ct_ops_proto.machine_identity import machine_digest

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_SYSTEMS = {"win32": "windows", "cygwin": "windows"}


@dataclass(frozen=True)
class HostFacts:
    """What this host is."""

    hostname: str
    os: str
    arch: str
    os_version: str
    """As people say it: ``Debian GNU/Linux 12 (bookworm)``."""

    boot_id: str
    """Another value after every boot."""

    machine_id: str = ""
    """Digest of the machine id (``ct_ops_proto.machine_identity``); empty: the system has none."""


def read_host_facts(*, hostname: str | None) -> HostFacts:
    """Look at the host.

    Args:
        hostname: the configured override; ``None`` asks the system.
    """
    return HostFacts(
        hostname=hostname or socket.gethostname(),
        os=_SYSTEMS.get(sys.platform, sys.platform),
        arch=architecture(platform.machine()),
        os_version=_read_os_version(),
        boot_id=_read_boot_id(),
        machine_id=_read_machine_id(),
    )


def architecture(machine: str) -> str:
    """Return the wire's name for a machine type, the machine type itself when there is none."""
    return _ARCHITECTURES.get(machine.lower(), machine.lower())


def _read_os_version() -> str:
    match sys.platform:
        case "darwin":
            return f"macOS {platform.mac_ver()[0]}"
        case "win32":
            return f"Windows {platform.release()} ({platform.version()})"
        case _:
            return _read_distribution() or f"{platform.system()} {platform.release()}"


def _read_distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:  # minimal images have no os-release; the kernel's name has to do
        return ""
    return release.get("PRETTY_NAME", release.get("NAME", ""))


def _read_machine_id() -> str:
    """Return the digest of the id that systemd or D-Bus gave this machine, empty when there is none."""
    for path in _MACHINE_ID_FILES:
        try:
            digest = machine_digest(path.read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError):
            continue
        if digest:
            return digest
    return ""


def _read_boot_id() -> str:
    kernel_boot_id = Path("/proc/sys/kernel/random/boot_id")
    if kernel_boot_id.exists():
        return kernel_boot_id.read_text().strip()
    return f"booted-{int(psutil.boot_time())}"

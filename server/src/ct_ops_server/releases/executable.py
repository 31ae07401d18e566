"""What a program runs on, by its first bytes. Pure, on bytes.

An existing agent renames whatever it was given over its own binary (rule 23): a page of an error, an
archive or another system's program would end it for good. So whatever is handed out as a program was
looked at: ELF (System V ABI), PE (Microsoft PE/COFF) or Mach-O, for that system and processor.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEAD_BYTES = 4096
_ELF_MACHINES = {62: "amd64", 183: "arm64"}
_PE_MACHINES = {0x8664: "amd64", 0xAA64: "arm64"}
_MACHO_MACHINES = {0x01000007: "amd64", 0x0100000C: "arm64"}
_ELF_EXECUTABLES = {2, 3}
"""Linked for a fixed address, or for any."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A system and a processor."""

    system: str
    architecture: str


def platform_of(head: bytes) -> Platform | None:
    """Return what a program that begins with ``head`` runs on; None when it is no program that we know."""
    for read in (_elf, _pe, _macho):
        if (found := read(head)) is not None:
            return found
    return None


def _elf(head: bytes) -> Platform | None:
    if head[:4] != b"\x7fELF" or head[4:6] != b"\x02\x01" or len(head) < 20:
        return None
    kind, machine = struct.unpack_from("<HH", head, 16)
    architecture = _ELF_MACHINES.get(machine)
    return Platform("linux", architecture) if architecture and kind in _ELF_EXECUTABLES else None


def _pe(head: bytes) -> Platform | None:
    if head[:2] != b"MZ" or len(head) < 64:
        return None
    (offset,) = struct.unpack_from("<I", head, 60)
    if head[offset : offset + 4] != b"PE\0\0" or len(head) < offset + 6:
        return None
    (machine,) = struct.unpack_from("<H", head, offset + 4)
    architecture = _PE_MACHINES.get(machine)
    return Platform("windows", architecture) if architecture else None


def _macho(head: bytes) -> Platform | None:
    if head[:4] != b"\xcf\xfa\xed\xfe" or len(head) < 16:
        return None
    machine, _, kind = struct.unpack_from("<III", head, 4)
    architecture = _MACHO_MACHINES.get(machine)
    return Platform("darwin", architecture) if architecture and kind == 2 else None

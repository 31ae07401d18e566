"""Programs that are none: just enough of a head to be taken for one."""

from __future__ import annotations

import struct


def elf(machine: int = 62, kind: int = 2, text: bytes = b"") -> bytes:
    return b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", kind, machine) + bytes(44) + text


def pe(machine: int = 0x8664) -> bytes:
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", machine) + bytes(64)


def macho(machine: int = 0x0100000C, kind: int = 2) -> bytes:
    return b"\xcf\xfa\xed\xfe" + struct.pack("<III", machine, 0, kind) + bytes(32)

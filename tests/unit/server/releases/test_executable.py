"""What a program runs on, by its first bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_ops_server.releases.executable import HEAD_BYTES, Platform, platform_of
from unit.server.releases.programs import elf, macho, pe


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (elf(62), Platform("linux", "amd64")),
        (elf(183, kind=3), Platform("linux", "arm64")),
        (pe(0x8664), Platform("windows", "amd64")),
        (pe(0xAA64), Platform("windows", "arm64")),
        (macho(0x01000007), Platform("darwin", "amd64")),
        (macho(0x0100000C), Platform("darwin", "arm64")),
    ],
)
def test_programs_say_their_platform(head: bytes, expected: Platform) -> None:
    """All six that agents are made for."""
    assert expected == platform_of(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<!doctype html><title>Sign in</title>",
        b'{"error":"not found"}',
        b"#!/bin/sh\nexec something\n",
        b"\x1f\x8b\x08",
        elf(40),
        elf(62, kind=1),
        elf(62)[:19],
        pe(0x14C),
        pe()[:64],
        macho(kind=6),
    ],
)
def test_what_is_no_program_for_us_is_none(head: bytes) -> None:
    """Pages, scripts, archives, libraries, other processors, and what was cut off."""
    assert platform_of(head) is None


def test_the_python_that_runs_this_is_recognised() -> None:
    """A real program, not one of ours."""
    with Path(sys.executable).resolve().open("rb") as file:
        found = platform_of(file.read(HEAD_BYTES))

    assert found is not None
    assert "linux" == found.system


@given(st.binary(max_size=200))
def test_any_bytes_may_be_looked_at(head: bytes) -> None:
    """Nothing is raised."""
    platform_of(head)

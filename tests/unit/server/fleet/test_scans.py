"""One upload of a scan, from its first chunk to its last."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ct_ops_server.fleet.orders import ScannedPackage
from ct_ops_server.fleet.scans import MOST_CHARS, MOST_PACKAGES, Chunk, Scan
from ct_ops_server.fleet.work_ports import ScanRefusedError

BASH = ScannedPackage("dpkg", "bash", "5.2-1", "amd64", "", 0)


def chunk(index: int = 0, *packages: ScannedPackage, last: bool = False) -> Chunk:
    return Chunk("t1", 1, index, last, packages or (BASH,))


def test_a_scan_is_complete_with_its_last_chunk() -> None:
    """And not before."""
    scan = Scan(chunk(0))
    scan.take(chunk(1))
    assert not scan.is_complete
    scan.take(chunk(2, last=True))

    assert scan.is_complete
    assert [BASH, BASH, BASH] == list(scan.packages)


@pytest.mark.parametrize("first", [0, 1])
def test_existing_agents_may_count_from_one(first: int) -> None:
    """Where they begin was never written down."""
    scan = Scan(chunk(first))
    scan.take(chunk(first + 1, last=True))

    assert scan.is_complete


@pytest.mark.parametrize("second", [0, 2, -1, 2**31 - 1])
def test_a_chunk_that_is_not_the_next_one_is_refused(second: int) -> None:
    """A repeated or a missing one."""
    scan = Scan(chunk(0))
    with pytest.raises(ScanRefusedError, match="scan_order"):
        scan.take(chunk(second))


@pytest.mark.parametrize("other", [replace(chunk(1), task_id="t2"), replace(chunk(1), attempt=2)])
def test_a_chunk_of_another_scan_is_refused(other: Chunk) -> None:
    """Another task's, or another attempt's."""
    scan = Scan(chunk(0))
    with pytest.raises(ScanRefusedError, match="scan_mixed"):
        scan.take(other)


def test_a_scan_has_an_end() -> None:
    """In packages, and in characters."""
    with pytest.raises(ScanRefusedError, match="scan_too_large"):
        Scan(chunk(0, *[BASH] * (MOST_PACKAGES + 1)))
    large = replace(BASH, publisher="x" * (MOST_CHARS // 2))
    scan = Scan(chunk(0, large))
    with pytest.raises(ScanRefusedError, match="scan_too_large"):
        scan.take(chunk(1, large, last=True))

    assert not scan.is_complete


def test_a_scan_that_found_nothing_is_none() -> None:
    """Its first chunk may be empty, the whole may not."""
    empty = Chunk("t1", 1, 0, is_last=False, packages=())
    Scan(empty).take(chunk(1, last=True))
    with pytest.raises(ScanRefusedError, match="scan_empty"):
        Scan(replace(empty, is_last=True))

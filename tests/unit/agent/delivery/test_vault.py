"""What stands in for a disk that cannot be written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ct_ops_agent.batches import Batch, BatchAck, Verdict
from ct_ops_agent.clock import Clock
from ct_ops_agent.delivery.draft import Room
from ct_ops_agent.delivery.entries import Entry, Lane
from ct_ops_agent.delivery.opening import DamagedError
from ct_ops_agent.delivery.outbox import Outbox, digest_of
from ct_ops_agent.delivery.space import Limits
from ct_ops_agent.delivery.summary import Tally
from ct_ops_agent.delivery.vault import Vault
from ct_ops_agent.transport.convert_items import ItemCodec
from ct_ops_proto.agent.v1 import ingest_pb2 as pb

NOW_MS = 1_800_000_000_000
MIB = 1024 * 1024


def result(number: int, size: int = 20) -> Entry:
    at_ms = NOW_MS + number
    message = pb.CheckResult(check_id="c", output=os.urandom(size).hex(), ran_at_ms=at_ms)
    body = pb.BatchBody(results=[pb.ResultItem(check_result=message)]).SerializeToString()
    return Entry(Lane.RESULTS, Tally("check_result", 1, at_ms, at_ms), body)


@dataclass
class Host:
    """A directory on a disk that may be full."""

    directory: Path
    now_s: float = 0.0
    vaults: list[Vault] = field(default_factory=list)

    def open(self) -> Vault:
        vault = Vault(
            self.directory,
            codec=ItemCodec(),
            limits=Limits(64 * MIB, 2**40),
            clock=Clock(wall=lambda: NOW_MS / 1000, monotonic=lambda: self.now_s),
            new_id=lambda: os.urandom(16),
        )
        self.vaults.append(vault)
        return vault

    def put(self, *numbers: int, size: int = 20) -> None:
        entries = [result(number, size) for number in numbers]
        self.vaults[-1].do(lambda outbox: outbox.put(entries, durable=True))

    def next_batch(self) -> Batch | None:
        return self.vaults[-1].do(
            lambda outbox: outbox.next_batch(Room(100_000, MIB), NOW_MS, with_samples=True)
        )

    def deliver_all(self) -> list[int]:
        """Bring everything home; return the numbers of the results."""
        numbers = []
        while batch := self.next_batch():
            body = pb.BatchBody.FromString(batch.payload)
            numbers += [item.check_result.ran_at_ms - NOW_MS for item in body.results]
            ack = BatchAck(batch.outbox_id, batch.seq, digest_of(batch.payload), Verdict.STORED)
            self.vaults[-1].do(lambda outbox, ack=ack: outbox.stored(ack, NOW_MS))  # type: ignore[misc]  # a default argument
        return numbers


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host whose disk takes everything."""
    host = Host(tmp_path)
    yield host
    host.vaults[-1].close()


@dataclass
class FullDisk:
    """Makes every commit on the disk fail while it is full."""

    monkeypatch: pytest.MonkeyPatch
    is_full: bool = False
    is_damaged: bool = False

    def __post_init__(self) -> None:
        real = Outbox._step

        def step(outbox: Outbox, *, durable: bool) -> object:
            file = outbox._connection.execute("PRAGMA database_list").fetchone()[2]
            if self.is_full and file:
                raise OSError(28, "No space left on device")
            if self.is_damaged and file:
                self.is_damaged = False
                raise DamagedError("page 7 is never used")
            return real(outbox, durable=durable)

        self.monkeypatch.setattr(Outbox, "_step", step)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    """A disk that can be filled."""
    return FullDisk(monkeypatch)


def test_on_a_full_disk_results_still_reach_the_server(host: Host, disk: FullDisk) -> None:
    """From memory, and what waits on the disk comes when it has room again: nothing is lost or doubled."""
    vault = host.open()
    host.put(1)
    disk.is_full = True
    host.put(2, 3)
    assert "cannot be written" in vault.problem
    assert [2, 3] == host.deliver_all()
    host.put(4)

    disk.is_full = False
    host.now_s += 61
    assert [1, 4] == host.deliver_all()
    assert "" == vault.problem


def test_what_was_being_sent_from_memory_is_sent_again_from_the_disk(host: Host, disk: FullDisk) -> None:
    """Its acknowledgement may be lost with the change; servers know items by their content."""
    host.open()
    disk.is_full = True
    host.put(1)
    frozen = host.next_batch()
    disk.is_full = False
    host.now_s += 61

    assert frozen is not None
    assert [1] == host.deliver_all()


def test_memory_is_bounded(host: Host, disk: FullDisk) -> None:
    """A full disk is no reason to fill the host's memory."""
    vault = host.open()
    disk.is_full = True
    for number in range(300):
        host.put(number, size=20_000)

    assert vault.do(Outbox.figures).used_bytes <= 4 * MIB
    assert ("check_result", "the outbox was full") in {
        (what, reason) for what, reason, _ in vault.do(Outbox.figures).counts
    }


def test_an_agent_starts_on_a_disk_that_is_full_or_read_only(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and begins on the disk once that can be written."""
    monkeypatch.setattr("ct_ops_agent.delivery.vault.open_file", _no_space)
    vault = host.open()
    host.put(1)
    assert "No space left" in vault.problem

    monkeypatch.undo()
    host.now_s += 61
    host.put(2)
    assert "" == vault.problem
    assert [1, 2] == sorted(host.deliver_all())


def test_a_stop_on_a_full_disk_is_a_stop(host: Host, disk: FullDisk) -> None:
    """Closing tries once more, and raises nothing."""
    vault = host.open()
    disk.is_full = True
    host.put(1)
    vault.close()
    disk.is_full = False

    host.open()
    assert [] == host.deliver_all()


def test_what_is_in_memory_at_a_stop_goes_to_the_disk(host: Host, disk: FullDisk) -> None:
    """When that has room again by then."""
    vault = host.open()
    disk.is_full = True
    host.put(1)
    disk.is_full = False
    vault.close()

    host.open()
    assert [1] == host.deliver_all()


def test_a_real_full_file_system_is_survived(host: Host) -> None:
    """SQLite's own error for it, provoked by its own limit on pages."""
    vault = host.open()
    host.put(1)
    connection = vault._outbox._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    for number in range(2, 20):
        host.put(number, size=4_000)

    assert "full" in vault.problem
    delivered = host.deliver_all()
    connection.execute("PRAGMA max_page_count = 1000000")
    host.now_s += 61
    host.put(20)
    assert set(range(1, 21)) == {*delivered, *host.deliver_all()}


def test_a_defect_of_ours_does_not_cost_the_file(host: Host) -> None:
    """What is no damage and no full disk is kept beside memory, not renamed away."""
    vault = host.open()
    host.put(1)
    before = vault.position.outbox_id

    def fail_on_disk(outbox: Outbox) -> bool:
        if outbox.position.outbox_id == before:
            raise sqlite3.IntegrityError("UNIQUE constraint failed")
        return True

    assert vault.do(fail_on_disk)
    host.now_s += 61
    assert [1] == host.deliver_all()
    assert not (host.directory / "outbox.damaged").exists()


def test_a_file_that_is_damaged_while_memory_stands_in_is_set_aside(host: Host, disk: FullDisk) -> None:
    """The next minute finds a new one, with what memory held."""
    vault = host.open()
    host.put(1)
    disk.is_full = True
    host.put(2)
    disk.is_full, disk.is_damaged = False, True
    host.now_s += 61
    host.put(3)
    disk.is_damaged = False
    host.now_s += 61
    host.put(4)

    assert [2, 3, 4] == host.deliver_all()
    assert "" == vault.problem
    assert (host.directory / "outbox.damaged").exists()


def _no_space(_directory: Path) -> object:
    raise OSError(28, "No space left on device")

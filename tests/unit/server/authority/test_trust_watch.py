"""A running process keeps up with the steps that are taken elsewhere, also when it could not for a while."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ct_ops_server.authority.trust import LiveTrust, Trust
from ct_ops_server.authority.trust_watch import TrustWatch
from ct_ops_server.core import open_core
from fakes.memory_store import MemoryStore
from fakes.memory_trust import MemoryTrust
from real_server import settings_for

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Reading:
    """Reads the latest version, unless the disk does not answer."""

    def __init__(self, latest: Trust) -> None:
        self.latest = latest
        self.attempts = 0
        self.is_broken = True

    async def __call__(self) -> Trust:
        self.attempts += 1
        if self.is_broken:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.latest


@pytest.fixture
async def live(tmp_path: Path) -> LiveTrust:
    """What a new installation signs with, a version before the latest."""
    (tmp_path / "server").mkdir(mode=0o700)
    async with open_core(settings_for(tmp_path / "server"), now=lambda: NOW) as core:
        trust = core.trust.current
    return LiveTrust(replace(trust, version=-1))


def watch_of(live: LiveTrust, reading: Reading, monotonic_s: Callable[[], float]) -> TrustWatch:
    """Return the watch of a process."""
    store = MemoryTrust(MemoryStore())
    return TrustWatch(live, store, read=reading, worker_id="w", node="n", monotonic_s=monotonic_s)


async def test_a_process_that_could_not_follow_once_tries_again_and_says_so_once(
    live: LiveTrust, caplog: pytest.LogCaptureFixture
) -> None:
    """A server with too many open files for a moment must not sign with the key of before for ever."""
    clock = [0.0]
    reading = Reading(replace(live.current, version=0))
    watch = watch_of(live, reading, lambda: clock[0])
    with caplog.at_level(logging.ERROR, logger="ct_ops_server.authority"):
        for _ in range(61):  # a minute, second by second
            await watch.catch_up()
            clock[0] += 1
    said = [record.getMessage() for record in caplog.records]
    reading.is_broken = False
    clock[0] += 30
    await watch.catch_up()

    assert (3, 1, 0) == (reading.attempts - 1, len(said), live.current.version)
    assert "cannot follow the latest step" in said[0]

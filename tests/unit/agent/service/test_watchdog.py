"""The watchdog is fed for progress, not for existing."""

from __future__ import annotations

import pytest

from ct_ops_agent.clock import Clock
from ct_ops_agent.control_plane import Route
from ct_ops_agent.conversation_parts import Acknowledgement
from ct_ops_agent.errors import UnreachableError
from ct_ops_agent.identity.credentials import Identity
from ct_ops_agent.identity.keystore import KeyPair
from ct_ops_agent.secret import Secret
from ct_ops_agent.service.watchdog import MARGIN_S, Progress
from ct_ops_proto.service_manager import ServiceManager

ROUTE = Route(("server.example:9443",), "")
IDENTITY = Identity("a1", Secret("t"), KeyPair(bytes(32), bytes(32)), "leaf", "ca", 0)
NEWS = Acknowledgement((), None)


class Told(ServiceManager):
    """A service manager that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.fed = 0
        self.said = ""

    def alive(self) -> None:
        self.fed += 1

    def status(self, text: str) -> None:
        self.said = text


class OverError(Exception):
    """The time of the test is over."""


class Time:
    """A clock that a test moves; sleeping moves it too, until the test is over."""

    def __init__(self) -> None:
        self.now = 0.0
        self.over_at = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.over_at:
            raise OverError

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now, monotonic=lambda: self.now, sleep=self.sleep)


def progress_of(time: Time, told: Told, silence_s: float | None = 300.0) -> Progress:
    return Progress(told, time.clock, interval_s=30, silence_s=silence_s)


async def fed_for(seconds: float, time: Time, progress: Progress) -> None:
    time.over_at = time.now + seconds
    with pytest.raises(OverError):
        await progress.run()


async def test_a_daemon_that_hangs_after_a_heartbeat_is_left_hungry() -> None:
    """Three intervals and the margin later nothing is fed any more."""
    time, told = Time(), Told()
    progress = progress_of(time, told)
    progress.acknowledged(ROUTE, IDENTITY, NEWS)
    await fed_for(1000, time, progress)

    assert 3 * 30 + MARGIN_S > told.fed * 100 > 0
    assert not progress.is_in_time


async def test_a_long_announced_wait_is_no_hang() -> None:
    """A refused agent waits a quarter of an hour, on purpose."""
    time, told = Time(), Told()
    progress = progress_of(time, told)
    progress.failed(UnreachableError("nobody answers"), 900.0)
    await fed_for(900, time, progress)

    assert told.fed == 9
    assert progress.is_in_time


async def test_an_attempt_that_never_ends_is_a_hang() -> None:
    """Register and the first frame have deadlines of their own, far below the margin."""
    time, told = Time(), Told()
    progress = progress_of(time, told)
    progress.connecting(ROUTE, IDENTITY)
    time.now += MARGIN_S

    assert not progress.is_in_time


async def test_nobody_is_fed_who_does_not_count() -> None:
    """Without WatchdogSec."""
    time, told = Time(), Told()
    await fed_for(1000, time, progress_of(time, told, silence_s=None))

    assert 0 == told.fed


def test_the_status_says_what_happens_now() -> None:
    """`systemctl status` shows it."""
    told = Told()
    progress = progress_of(Time(), told)
    seen = []
    progress.enrolling(ROUTE)
    seen.append(told.said)
    progress.connecting(ROUTE, IDENTITY)
    seen.append(told.said)
    progress.acknowledged(ROUTE, IDENTITY, NEWS)
    seen.append(told.said)
    progress.failed(UnreachableError("nobody answers"), 2.4)
    seen.append(told.said)

    assert [
        "asking server.example:9443 to be admitted",
        "connecting to server.example:9443 as agent a1",
        "reporting to server.example:9443 as agent a1",
        "nobody answers (next try in 2 s)",
    ] == seen

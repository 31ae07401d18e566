"""Time as an argument.

Flows are given a :class:`Clock` and never ask the system, so that a test can let an hour pass or
set the wall clock back a day. Two clocks, because they answer different questions: *wall* says what
to write on a heartbeat and may jump; *monotonic* says how long something took and may not.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """What a flow may know about time. All values are seconds."""

    wall: Callable[[], float] = time.time
    """Seconds since 1970, UTC."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds since some fixed moment; never goes back."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


SYSTEM_CLOCK = Clock()

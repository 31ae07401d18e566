"""Answering refused registrations late.

Any error on Register ends an existing agent's process, and systemd starts it again five seconds later,
for ever. It waits for the answer without a deadline, so the answer is what can be slowed down (rule 10):
the first refusal of a key comes at once (a person may be waiting), the following ones after 5, 10, 20,
40 and then 60 seconds. A key that was quiet for a while starts again. At most so many are held at the
same time, and at most so many keys are remembered: beyond that the answer comes at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_FORGOTTEN_AFTER_S = 300.0
_KEYS_REMEMBERED = 10_000


@dataclass(slots=True)
class _Record:
    refusals: int
    latest_at_s: float


class HeldRefusals:
    """Decides how late a refusal is answered, and waits."""

    def __init__(self, *, first_s: float, longest_s: float, at_once: int, now_s: Callable[[], float]) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._at_once = at_once
        self._now_s = now_s
        self._held = 0
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def delay_s(self, key: str) -> float:
        """Count a refusal of this key and return how long its answer waits, in seconds."""
        now_s = self._now_s()
        record = self._records.pop(key, None)
        if record is None or now_s - record.latest_at_s > _FORGOTTEN_AFTER_S:
            record = _Record(0, now_s)
        record.refusals += 1
        record.latest_at_s = now_s
        self._records[key] = record
        if len(self._records) > _KEYS_REMEMBERED:
            self._records.popitem(last=False)
        if record.refusals == 1:
            return 0.0
        return float(min(self._first_s * 2 ** min(record.refusals - 2, 10), self._longest_s))

    async def hold(self, key: str) -> None:
        """Wait as long as this key's refusal has to."""
        delay_s = self.delay_s(key)
        if delay_s <= 0 or self._held >= self._at_once:
            return
        self._held += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._held -= 1

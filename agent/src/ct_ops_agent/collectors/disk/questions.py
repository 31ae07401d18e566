"""Questions that may never be answered: file systems are asked for their size, each in a thread of its own.

Asking a dead mount blocks in the kernel, for minutes or for ever, and nothing ends such a thread. So all are
waited for together, until one deadline; one that is not back by then hangs, and is neither waited for nor asked
again before its thread has returned. Only so many may hang at once: further ones are not asked, so threads have
an end whatever hangs.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from queue import Empty, SimpleQueue
from typing import TypeAlias

Ask: TypeAlias = Callable[[str], os.statvfs_result]


class Silence(Enum):
    """Why there is no answer."""

    HANGS = "does not answer; is its device or its server gone?"
    NOT_ASKED = "was not asked: too many others do not answer"


Answer: TypeAlias = os.statvfs_result | OSError | Silence
Answered: TypeAlias = "SimpleQueue[Question]"


class Desk:
    """Asks, and remembers whom it still waits for."""

    def __init__(self, ask: Ask, most: int, deadline_s: float) -> None:
        """Prepare.

        Args:
            ask: asks a mount point for its size; may block for ever.
            most: how many may be asked, or hang, at once.
            deadline_s: how long all of them together may take.
        """
        self._ask = ask
        self._most = most
        self._deadline_s = deadline_s
        self._hanging: dict[str, Question] = {}

    def answers(self, points: Iterable[str]) -> dict[str, Answer]:
        """Return the answer of each mount point, after the deadline at the latest."""
        self._hanging = {point: each for point, each in self._hanging.items() if each.hangs}
        answers: dict[str, Answer] = dict.fromkeys(points, Silence.NOT_ASKED)
        answers |= dict.fromkeys(answers.keys() & self._hanging.keys(), Silence.HANGS)
        waiting = deque(point for point, answer in answers.items() if answer is Silence.NOT_ASKED)
        asked = self._ask_until(time.monotonic() + self._deadline_s, waiting)
        self._hanging |= {point: each for point, each in asked.items() if each.answer is Silence.HANGS}
        return answers | {point: each.answer for point, each in asked.items()}

    def _ask_until(self, ends_s: float, waiting: deque[str]) -> dict[str, Question]:
        """Ask as many at once as there may be, and the next whenever one has answered."""
        asked: dict[str, Question] = {}
        answered: Answered = SimpleQueue()
        open_questions = 0
        while True:
            while waiting and open_questions + len(self._hanging) < self._most:
                point = waiting.popleft()
                asked[point] = Question(self._ask, point, answered)
                open_questions += 1
            if not open_questions or not _one_more(answered, ends_s):
                return asked
            open_questions -= 1


class Question:
    """One mount point being asked, in a thread that tells ``answered`` when it is back."""

    def __init__(self, ask: Ask, point: str, answered: Answered) -> None:
        self.answer: Answer = Silence.HANGS
        self._ask = ask
        self._point = point
        self._answered = answered
        self._thread = threading.Thread(target=self._run, name=f"collector disk {point}", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Whether its thread has not returned."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Wait for the thread of a question that was answered, which has nothing left to do."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self.answer = self._ask(self._point)
        except OSError as error:
            self.answer = error
        finally:
            self._answered.put(self)


def _one_more(answered: Answered, ends_s: float) -> bool:
    """Wait for an answer, and return whether one came in time."""
    try:
        answered.get(timeout=max(ends_s - time.monotonic(), 0.0)).end()
    except Empty:
        return False
    return True

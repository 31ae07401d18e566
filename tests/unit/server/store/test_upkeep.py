"""Upkeep: how long it rests, and that it rests less when it falls behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ct_ops_server.store.database import Database
from ct_ops_server.store.upkeep import Upkeep
from ct_ops_server.store.writer import GroupWriter


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it rested, each time; nobody really waits."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("ct_ops_server.store.upkeep.asyncio.sleep", sleep)
    return slept


async def command(_connection: object) -> str:
    return "done"


class Writer:
    """Runs commands; each takes a second by a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 0.0

    async def run(self, command: Any) -> Any:
        self.now_s += 1.0
        return await command(None)


def upkeep_of(writer: Writer) -> Upkeep:
    database = cast("Database", SimpleNamespace(has_listeners=False))
    return Upkeep(database, cast("GroupWriter", writer), clock=lambda: writer.now_s)


@pytest.mark.parametrize(("late_s", "rest_s"), [(0.0, 4.0), (1_800.0, 2.0), (3_600.0, 0.005), (1e9, 0.005)])
async def test_the_rest_is_shorter_the_longer_work_has_been_waiting(
    rests: list[float], late_s: float, rest_s: float
) -> None:
    """Four times the step when there is nothing to catch up with; none, but for others' turn, after an hour."""
    upkeep = upkeep_of(Writer())
    upkeep.hurry(late_s)
    outcome = await upkeep.step(command)

    assert ("done", 1.0) == outcome
    assert [rest_s] == rests


async def test_it_rests_again_once_it_has_caught_up(rests: list[float]) -> None:
    """Being late once is not for ever."""
    upkeep = upkeep_of(Writer())
    upkeep.hurry(7_200.0)
    await upkeep.step(command)
    upkeep.hurry(0.0)
    await upkeep.step(command)

    assert [0.005, 4.0] == rests

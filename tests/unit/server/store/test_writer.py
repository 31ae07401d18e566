"""The group-commit writer over transactions that tests can hold, break and inspect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ct_ops_server.fleet.ports import StoreUnavailableError, WriteRefusedError
from ct_ops_server.store.grouping import Failed, WriterLimits
from ct_ops_server.store.writer import GroupWriter

NO_PAUSES = WriterLimits(commit_share=1.0, free_commits_s=1e9)


class Savepoints:
    """As much of a connection as commands need."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {}

    @asynccontextmanager
    async def begin_nested(self) -> AsyncIterator[None]:
        yield


@dataclass
class Transactions:
    """Transactions that remember what was committed, and wait or fail when told to."""

    committed: list[list[Any]] = field(default_factory=list)
    current: list[Any] = field(default_factory=list)
    may_commit: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Callable[[list[Any]], Exception | None] = lambda _: None
    begun: int = 0

    def __post_init__(self) -> None:
        self.may_commit.set()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        self.begun += 1
        self.current = []
        yield cast("AsyncConnection", Savepoints())
        await self.may_commit.wait()
        if error := self.failure(self.current):
            raise error
        self.committed.append(self.current)


@dataclass
class Numbers:
    """A kind of write: a number, whose result is its double."""

    transactions: Transactions
    name: str = "number"

    async def apply(self, connection: AsyncConnection, writes: Sequence[int]) -> Sequence[int | Failed]:
        del connection
        self.transactions.current += writes
        return [2 * write for write in writes]


@dataclass
class Watcher:
    """An observer that remembers."""

    sizes: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unavailable: int = 0
    waits_s: list[float] = field(default_factory=list)
    lost: int = 0

    def group_committed(self, writes: int, seconds: float) -> None:
        assert seconds >= 0
        self.sizes.append(writes)

    def write_refused(self, kind: str) -> None:
        self.refused.append(kind)

    def group_taken(self, waited_s: float) -> None:
        self.waits_s.append(waited_s)

    def database_lost(self) -> None:
        self.lost += 1

    def writes_unavailable(self, writes: int) -> None:
        self.unavailable += writes


@pytest.fixture
async def transactions() -> Transactions:
    return Transactions()


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
async def writer(transactions: Transactions, watcher: Watcher) -> AsyncIterator[GroupWriter]:
    async with GroupWriter(transactions, limits=NO_PAUSES, observer=watcher) as running:
        yield running


def submit_all(
    writer: GroupWriter, transactions: Transactions, *pairs: tuple[str, int]
) -> list[asyncio.Task[int]]:
    kind = Numbers(transactions)
    return [asyncio.create_task(writer.submit(kind, number, key=key)) for key, number in pairs]


async def settled(tasks: Sequence[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def turn() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_write_is_answered_after_its_commit(writer: GroupWriter, transactions: Transactions) -> None:
    """Nobody hears "stored" before it is durable."""
    transactions.may_commit.clear()
    (task,) = submit_all(writer, transactions, ("a", 21))
    await turn()
    before = task.done()
    transactions.may_commit.set()

    assert not before
    assert 42 == await task
    assert [[21]] == transactions.committed


async def test_what_arrives_during_a_commit_shares_the_next_one(
    writer: GroupWriter, transactions: Transactions, watcher: Watcher
) -> None:
    """Groups grow while the database is busy, ordered by agent."""
    transactions.may_commit.clear()
    first = submit_all(writer, transactions, ("a", 1))
    await turn()
    rest = submit_all(writer, transactions, ("d", 4), ("b", 2), ("c", 3))
    await turn()
    transactions.may_commit.set()

    assert [2, 8, 4, 6] == await settled(first + rest)
    assert [[1], [2, 3, 4]] == transactions.committed
    assert [1, 3] == watcher.sizes


async def test_two_writes_of_one_agent_are_committed_one_after_the_other(
    writer: GroupWriter, transactions: Transactions
) -> None:
    """One statement cannot change a row twice, so the second waits for the next group."""
    tasks = submit_all(writer, transactions, ("a", 1), ("a", 2), ("b", 3))

    assert [2, 4, 6] == await settled(tasks)
    assert [[1, 3], [2]] == transactions.committed


async def test_a_poisoned_write_is_refused_and_the_others_are_committed(
    writer: GroupWriter, transactions: Transactions, watcher: Watcher
) -> None:
    """The group is taken apart until only the culprit is left."""
    transactions.failure = lambda writes: ValueError("poison") if 5 in writes else None
    results = await settled(submit_all(writer, transactions, *((f"{n:02}", n) for n in range(20))))

    assert [n * 2 for n in range(20) if n != 5] == [r for r in results if isinstance(r, int)]
    assert isinstance(results[5], WriteRefusedError)
    assert sorted(set(range(20)) - {5}) == sorted(n for group in transactions.committed for n in group)
    assert ["number"] == watcher.refused


async def test_an_outage_fails_everybody_at_once_and_is_over_by_itself(
    writer: GroupWriter, transactions: Transactions, watcher: Watcher
) -> None:
    """Without a database nothing is taken apart; the next group finds it back."""
    transactions.failure = lambda _: ConnectionRefusedError()
    results = await settled(submit_all(writer, transactions, *((str(n), n) for n in range(20))))
    attempts, transactions.failure = transactions.begun, lambda _: None

    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert (1, 20) == (attempts, watcher.unavailable)
    assert 1 == watcher.lost
    assert [2] == await settled(submit_all(writer, transactions, ("a", 1)))


async def test_a_command_that_raises_disturbs_nobody(writer: GroupWriter, transactions: Transactions) -> None:
    """Its caller gets its own error, the group is committed without it."""

    async def fail(_: AsyncConnection) -> None:
        raise KeyError("mine")

    async def succeed(_: AsyncConnection) -> str:
        return "done"

    tasks: list[asyncio.Task[Any]] = [
        *submit_all(writer, transactions, ("a", 1)),
        asyncio.create_task(writer.run(fail)),
        asyncio.create_task(writer.run(succeed)),
    ]
    stored, failed, done = await settled(tasks)

    assert (2, "done") == (stored, done)
    assert isinstance(failed, KeyError)
    assert [[1]] == transactions.committed


async def test_a_command_that_finds_the_database_gone_fails_the_group(
    writer: GroupWriter, transactions: Transactions
) -> None:
    """An outage is everybody's, whoever notices it."""

    async def lose_connection(_: AsyncConnection) -> None:
        raise ConnectionResetError

    tasks: list[asyncio.Task[Any]] = [
        *submit_all(writer, transactions, ("a", 1)),
        asyncio.create_task(writer.run(lose_connection)),
    ]

    assert [StoreUnavailableError] * 2 == [type(result) for result in await settled(tasks)]
    assert [] == transactions.committed


async def test_a_full_queue_turns_writes_away_at_once(transactions: Transactions, watcher: Watcher) -> None:
    """Memory is bounded, and whoever is turned away need not wait to hear it."""
    transactions.may_commit.clear()
    limits = WriterLimits(group=1, pending=2)
    async with GroupWriter(transactions, limits=limits, observer=watcher) as writer:
        taken = submit_all(writer, transactions, ("a", 1))
        await turn()
        taken += submit_all(writer, transactions, ("b", 2), ("c", 3))
        (turned_away,) = submit_all(writer, transactions, ("d", 4))
        await turn()
        refused = turned_away.exception()
        transactions.may_commit.set()

        assert [2, 4, 6] == await settled(taken)
    assert isinstance(refused, StoreUnavailableError)
    assert 1 == watcher.unavailable


async def test_a_caller_that_goes_away_before_its_commit_is_left_out(
    writer: GroupWriter, transactions: Transactions
) -> None:
    """Cancelling a submitter takes back what has not begun."""
    transactions.may_commit.clear()
    first = submit_all(writer, transactions, ("a", 1))
    await turn()
    gone, stays = submit_all(writer, transactions, ("b", 2), ("c", 3))
    await turn()
    gone.cancel()
    transactions.may_commit.set()

    assert [2, 6] == await settled([*first, stays])
    assert [[1], [3]] == transactions.committed


async def test_a_caller_that_goes_away_during_its_commit_harms_nobody(
    writer: GroupWriter, transactions: Transactions
) -> None:
    """What has begun is stored unheard."""
    transactions.may_commit.clear()
    gone, stays = submit_all(writer, transactions, ("a", 1), ("b", 2))
    await turn()
    gone.cancel()
    transactions.may_commit.set()

    assert 4 == await stays
    assert [[1, 2]] == transactions.committed


async def test_closing_commits_what_is_waiting_and_takes_nothing_more(transactions: Transactions) -> None:
    """An orderly shutdown loses nothing that was accepted."""
    writer = GroupWriter(transactions, limits=WriterLimits(group=2))
    async with writer:
        tasks = submit_all(writer, transactions, *((str(n), n) for n in range(5)), ("0", 5))
        await turn()

    assert [0, 2, 4, 6, 8, 10] == await settled(tasks)
    with pytest.raises(StoreUnavailableError):
        await writer.submit(Numbers(transactions), 1, key="a")


async def test_closing_does_not_wait_out_a_pause(transactions: Transactions) -> None:
    """A group that is still gathering is committed at once."""
    limits = WriterLimits(free_commits_s=0.0, commit_share=1e-9, gather_s=3_600)
    async with GroupWriter(transactions, limits=limits) as writer:
        await settled(submit_all(writer, transactions, ("a", 1)))
        tasks = submit_all(writer, transactions, ("a", 2))
        await turn()
        gathering = not tasks[0].done()

    assert gathering
    assert [4] == await settled(tasks)


async def test_a_full_group_does_not_wait_out_a_pause(transactions: Transactions) -> None:
    """Waiting for company ends when there is enough of it."""
    limits = WriterLimits(group=3, free_commits_s=0.0, commit_share=1e-9, gather_s=3_600)
    async with GroupWriter(transactions, limits=limits) as writer:
        await settled(submit_all(writer, transactions, ("a", 1)))

        assert [2, 4, 6] == await settled(submit_all(writer, transactions, ("a", 1), ("b", 2), ("c", 3)))
    assert [[1], [1, 2, 3]] == transactions.committed


def submit_patient(
    writer: GroupWriter, transactions: Transactions, key: str, write: int, patience_s: float
) -> asyncio.Task[int]:
    kind = Numbers(transactions)
    return asyncio.create_task(writer.submit(kind, write, key=key, patience_s=patience_s))


async def test_a_patient_write_waits_for_the_first_that_is_not(transactions: Transactions) -> None:
    """Whoever needs a commit now takes along everybody who was waiting for one."""
    async with GroupWriter(transactions, limits=NO_PAUSES) as writer:
        patient = [submit_patient(writer, transactions, str(n), n, 3_600) for n in range(3)]
        await turn()
        waited = transactions.begun == 0

        await settled(submit_all(writer, transactions, ("z", 9)))
        assert [0, 2, 4] == await settled(patient)

    assert waited
    assert [[0, 1, 2, 9]] == transactions.committed


async def test_a_patient_write_is_committed_alone_when_its_patience_ends(transactions: Transactions) -> None:
    """Nobody is kept waiting for company that never comes."""
    async with GroupWriter(transactions, limits=NO_PAUSES) as writer:
        assert [2] == await settled([submit_patient(writer, transactions, "a", 1, 0.01)])


async def test_the_shortest_patience_of_a_group_counts(transactions: Transactions) -> None:
    """One that may wait less than those before it is not held up by them."""
    async with GroupWriter(transactions, limits=NO_PAUSES) as writer:
        tasks = [
            submit_patient(writer, transactions, key, 1, wait_s)
            for key, wait_s in (("a", 3_600), ("b", 0.01))
        ]

        assert [2, 2] == await settled(tasks)
    assert [[1, 1]] == transactions.committed


async def test_a_full_group_of_patient_writes_does_not_wait(transactions: Transactions) -> None:
    """It has all the company it can get."""
    async with GroupWriter(transactions, limits=replace(NO_PAUSES, group=2)) as writer:
        tasks = [submit_patient(writer, transactions, str(n), n, 3_600) for n in range(2)]

        assert [0, 2] == await settled(tasks)


async def test_a_second_write_of_a_patient_agent_follows_without_a_pause(transactions: Transactions) -> None:
    """It found no place in the group of the first, so it has waited already."""
    async with GroupWriter(transactions, limits=NO_PAUSES) as writer:
        tasks = [submit_patient(writer, transactions, "a", n, 3_600) for n in (1, 2)]
        await turn()
        await settled(submit_all(writer, transactions, ("z", 9)))

        assert [2, 4] == await settled(tasks)
    assert [[1, 9], [2]] == transactions.committed


async def test_closing_commits_what_is_patient_at_once(transactions: Transactions) -> None:
    """A server that stops waits for nobody's company."""
    async with GroupWriter(transactions, limits=NO_PAUSES) as writer:
        task = submit_patient(writer, transactions, "a", 1, 3_600)
        await turn()

    assert [2] == await settled([task])


async def test_nobody_waits_for_a_writer_that_was_stopped(transactions: Transactions) -> None:
    """Whoever cancels the writer's task leaves no caller hanging."""
    transactions.may_commit.clear()
    writer = GroupWriter(transactions, limits=WriterLimits(group=1))
    await writer.__aenter__()
    tasks = submit_all(writer, transactions, ("a", 1), ("b", 2), ("b", 3))
    await turn()
    task = next(task for task in asyncio.all_tasks() if task.get_name() == "store-writer")
    task.cancel()

    assert [StoreUnavailableError] * 3 == [type(result) for result in await settled(tasks)]


async def test_the_writer_says_how_many_writes_wait_and_how_long(
    transactions: Transactions, watcher: Watcher
) -> None:
    """Those of a transaction that hangs included: that is when it matters."""
    now_s = 100.0
    transactions.may_commit.clear()
    async with GroupWriter(
        transactions, limits=WriterLimits(group=1, gather_s=0.0), observer=watcher, clock=lambda: now_s
    ) as writer:
        first = submit_all(writer, transactions, ("a", 1))
        await turn()
        now_s = 107.0
        second = submit_all(writer, transactions, ("b", 2))
        await turn()

        assert (2, 7.0) == (writer.waiting, writer.lag_s)
        transactions.may_commit.set()
        await settled(first + second)
        await turn()
        assert (0, 0.0) == (writer.waiting, writer.lag_s)
    assert [0.0, 0.0] == watcher.waits_s

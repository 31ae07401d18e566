"""Who was refused is written down beside the work, never in its way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.values import APPLICATION
from ct_ops_server.enrolment.model import Application, Refusal, RefusalNote, RefusalRecord
from ct_ops_server.enrolment.refusal_log import KEPT, RefusalLog
from ct_ops_server.fleet.ports import StoreError, StoreUnavailableError, WriteRefusedError
from fakes.memory_enrolment import result_of


@dataclass
class Store:
    """A place for refusals that may be slow, or away."""

    failures: list[StoreError] = field(default_factory=list)
    pruning_failures: list[StoreError] = field(default_factory=list)
    gate: asyncio.Event | None = None
    groups: list[list[RefusalNote]] = field(default_factory=list)
    prunings: list[int] = field(default_factory=list)

    async def record_refusals(self, notes: Sequence[RefusalNote]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.groups.append(list(notes))

    async def list_refusals(
        self, *, token_id: str | None = None, reason: Refusal | None = None, limit: int
    ) -> Sequence[RefusalRecord]:
        raise AssertionError(f"a log only writes: {token_id} {reason} {limit}")

    async def prune_refusals(self, *, keep: int) -> None:
        if self.pruning_failures:
            raise self.pruning_failures.pop(0)
        self.prunings.append(keep)

    @property
    def counts(self) -> list[tuple[str, Refusal, int]]:
        return [(note.key_id, note.reason, note.count) for group in self.groups for note in group]


def host(number: int = 1, name: str = "web-1") -> Application:
    return replace(APPLICATION, key_id=f"key-{number}", hostname=name)


@asynccontextmanager
async def running(log: RefusalLog) -> AsyncIterator[None]:
    """Let the log write as it does in a server."""
    task = asyncio.create_task(log.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def test_a_refusal_is_written_soon_and_whole() -> None:
    """With the reason, who it was as far as that is known, and the token when it was one of ours."""
    store = Store()
    log = RefusalLog(store, pause_s=0)
    async with running(log):
        log.note(Refusal.TOKEN_EXPIRED, host(), "token-1")
        await until(lambda: store.groups)

    assert [
        [RefusalNote(Refusal.TOKEN_EXPIRED, "key-1", "web-1", APPLICATION.observed_address, "token-1")]
    ] == store.groups


async def test_whoever_knocks_without_end_takes_one_place() -> None:
    """Counted, with the name that it said last."""
    store = Store()
    log = RefusalLog(store, places=1)
    for _ in range(999):
        log.note(Refusal.TOKEN_EXPIRED, host(), "token-1")
    log.note(Refusal.TOKEN_EXPIRED, host(name="web-2"), "token-2")
    await log.flush()

    ((note,),) = store.groups
    assert (1_000, "web-2", "token-2") == (note.count, note.hostname, note.token_id)


async def test_another_key_or_reason_has_a_place_of_its_own() -> None:
    """One host may be refused for two reasons."""
    store = Store()
    log = RefusalLog(store)
    log.note(Refusal.TOKEN_EXPIRED, host(1), "token-1")
    log.note(Refusal.TOKEN_NETWORK, host(1), "token-1")
    log.note(Refusal.TOKEN_EXPIRED, host(2), "token-1")
    await log.flush()

    assert [
        ("key-1", Refusal.TOKEN_EXPIRED, 1),
        ("key-1", Refusal.TOKEN_NETWORK, 1),
        ("key-2", Refusal.TOKEN_EXPIRED, 1),
    ] == store.counts


async def test_attack_a_flood_of_made_up_keys_takes_no_more_memory_than_there_are_places() -> None:
    """What has no place is counted as dropped; who waits already goes on being counted."""
    store, dropped = Store(), list[int]()
    log = RefusalLog(store, dropped=dropped.append, places=10)
    for number in range(1_000):
        log.note(Refusal.TOKEN_UNKNOWN, host(number), None)
    log.note(Refusal.TOKEN_UNKNOWN, host(0), None)
    await log.flush()

    assert (10, 990) == (len(store.counts), sum(dropped))
    assert ("key-0", Refusal.TOKEN_UNKNOWN, 2) == store.counts[0]


async def test_noting_never_waits_for_a_slow_store() -> None:
    """What comes while a group is being written is in the next one, and nothing is in two."""
    store = Store(gate=asyncio.Event())
    log = RefusalLog(store, pause_s=0)
    assert store.gate is not None
    async with running(log):
        log.note(Refusal.REVOKED, host(1), None)
        await asyncio.sleep(0)
        log.note(Refusal.REVOKED, host(1), None)
        log.note(Refusal.REVOKED, host(2), None)
        store.gate.set()
        await until(lambda: len(store.groups) == 2)

    assert [["key-1"], ["key-1", "key-2"]] == [[note.key_id for note in group] for group in store.groups]
    assert {1} == {count for _, _, count in store.counts}


async def test_groups_are_written_with_a_pause_between_them() -> None:
    """A flood costs the database one write in that time."""
    store = Store()
    log = RefusalLog(store, pause_s=30)
    async with running(log):
        log.note(Refusal.REVOKED, host(1), None)
        await until(lambda: store.groups)
        log.note(Refusal.REVOKED, host(2), None)
        for _ in range(20):
            await asyncio.sleep(0)
        during = len(store.groups)
    await log.flush()

    assert (1, 2) == (during, len(store.groups))


async def test_nothing_is_written_when_nobody_was_refused() -> None:
    """Not even an empty group."""
    store = Store()
    await RefusalLog(store).flush()

    assert ([], []) == (store.groups, store.prunings)


@pytest.mark.parametrize("failure", [StoreUnavailableError("away"), WriteRefusedError("odd")])
async def test_a_store_that_fails_costs_its_notes_and_a_line_and_the_log_goes_on(
    failure: StoreError, caplog: pytest.LogCaptureFixture
) -> None:
    """How many are lost is said once and counted; the next group is written."""
    store, dropped = Store(failures=[failure]), list[int]()
    log = RefusalLog(store, dropped=dropped.append, pause_s=0)
    with caplog.at_level(logging.WARNING):
        async with running(log):
            log.note(Refusal.REVOKED, host(1), None)
            log.note(Refusal.REVOKED, host(1), None)
            await until(lambda: dropped)
            log.note(Refusal.REVOKED, host(2), None)
            await until(lambda: store.groups)

    assert [2] == dropped
    assert [("key-2", Refusal.REVOKED, 1)] == store.counts
    assert ["2 refusals were not recorded: " + str(failure)] == [each.message for each in caplog.records]


async def test_old_records_are_pruned_after_every_thousand_new_ones() -> None:
    """And at the first write after a start, since another process may have stopped just before its turn."""
    store = Store()
    log = RefusalLog(store, places=400)
    prunings = list[int]()
    for _ in range(6):
        for number in range(400):
            log.note(Refusal.REVOKED, host(number), None)
        await log.flush()
        prunings.append(len(store.prunings))

    assert [1, 1, 1, 2, 2, 2] == prunings
    assert {KEPT} == set(store.prunings)


async def test_a_pruning_that_fails_is_done_at_the_next_write(caplog: pytest.LogCaptureFixture) -> None:
    """The records themselves were written: nothing counts as dropped."""
    store, dropped = Store(pruning_failures=[StoreUnavailableError("away")]), list[int]()
    log = RefusalLog(store, dropped=dropped.append)
    for number in range(2):
        log.note(Refusal.REVOKED, host(number), None)
        await log.flush()

    assert (2, [KEPT], []) == (len(store.groups), store.prunings, dropped)
    assert "stay for now" in caplog.text


notes = st.tuples(st.integers(0, 6), st.sampled_from([Refusal.REVOKED, Refusal.TOKEN_UNKNOWN]))
steps = st.lists(st.one_of(notes, st.just("flush"), st.just("fail")), max_size=60)


@given(steps, st.integers(1, 5))
def test_every_refusal_is_either_recorded_or_counted_as_dropped(
    script: list[tuple[int, Refusal] | str], places: int
) -> None:
    """None is lost in silence and none is counted twice, in whatever order refusals, writes and outages come."""
    store, dropped, said = Store(), list[int](), 0
    log = RefusalLog(store, dropped=dropped.append, places=places)
    for step in (*script, "flush"):
        match step:
            case "flush":
                result_of(log.flush())
            case "fail":
                store.failures = [StoreUnavailableError("away")]
                result_of(log.flush())
                store.failures = []
            case (int(number), Refusal() as reason):
                log.note(reason, host(number), None)
                said += 1

    assert said == sum(count for _, _, count in store.counts) + sum(dropped)
    assert all(len(group) <= places for group in store.groups)

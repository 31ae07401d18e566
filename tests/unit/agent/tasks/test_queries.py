"""Questions about the host, each answered once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.tasks.queries import MAX_CHARS, Answer, QueryDesk, ReadError, answers
from ct_ops_agent.work import OpenPort, Query, QueryResult, ServiceState
from work_desk import KeptResults, settle, until

PORTS = (OpenPort(22, "tcp", "sshd"), OpenPort(53, "udp6", ""))
SERVICES = (ServiceState("ssh.service", "loaded", "active/running"),)


@pytest.fixture
async def results() -> KeptResults:
    return KeptResults()


@pytest.fixture
async def desk(results: KeptResults) -> AsyncIterator[QueryDesk]:
    opened = QueryDesk(results, answers(lambda: PORTS, lambda: SERVICES))
    yield opened
    await opened.stop()


def desk_of(results: KeptResults, deadline_s: float = 10.0, **known: Callable[[], Answer]) -> QueryDesk:
    mapping: Mapping[str, Callable[[], Answer]] = known
    return QueryDesk(results, mapping, deadline_s)


async def test_a_question_has_an_answer(desk: QueryDesk, results: KeptResults) -> None:
    """Of its own kind only, and without an error."""
    desk.ask(Query("q1", "list_ports"))
    desk.ask(Query("q2", "list_services"))
    await results.several(2)

    assert {
        "q1": QueryResult("q1", "list_ports", ports=PORTS),
        "q2": QueryResult("q2", "list_services", services=SERVICES),
    } == {each.query_id: each for each in results.kept if isinstance(each, QueryResult)}


async def test_a_question_is_answered_once_a_stream(desk: QueryDesk, results: KeptResults) -> None:
    """Servers push it until they have the answer; on the next stream they have lost it."""
    for _ in range(3):
        desk.ask(Query("q1", "list_ports"))
    await results.several(1)
    desk.ask(Query("q1", "list_ports"))
    await settle()
    assert 1 == len(results.kept)

    desk.new_stream()
    desk.ask(Query("q1", "list_ports"))

    await results.several(2)


async def test_an_unknown_question_is_answered_with_what_is_known(
    desk: QueryDesk, results: KeptResults
) -> None:
    """A newer server may ask more."""
    desk.ask(Query("q1", "list_dreams"))
    (result,) = await results.several(1)

    assert isinstance(result, QueryResult)
    assert "this agent does not know 'list_dreams'; it knows list_ports, list_services" == result.error


async def test_what_the_host_says_against_it_is_the_answer(results: KeptResults) -> None:
    """The text arrives; in the existing system such texts were thrown away."""

    def fail() -> Answer:
        raise ReadError("systemctl is not installed on this host")

    desk = desk_of(results, list_services=fail)
    desk.ask(Query("q1", "list_services"))
    (result,) = await results.several(1)

    assert isinstance(result, QueryResult)
    assert "systemctl is not installed on this host" == result.error


async def test_a_defect_is_an_answer_too(results: KeptResults) -> None:
    """The server would otherwise wait until the question expires."""

    def fail() -> Answer:
        raise ZeroDivisionError("oops")

    desk = desk_of(results, list_ports=fail)
    desk.ask(Query("q1", "list_ports"))
    (result,) = await results.several(1)

    assert isinstance(result, QueryResult)
    assert "reading the host failed: ZeroDivisionError: oops" == result.error


async def test_a_host_that_does_not_tell_has_a_deadline(results: KeptResults) -> None:
    """And is not asked the same beside it; afterwards it is."""
    release = threading.Event()

    def hang() -> Answer:
        release.wait(30)
        return Answer(ports=PORTS)

    desk = desk_of(results, 0.05, list_ports=hang)
    desk.ask(Query("q1", "list_ports"))
    await results.several(1)
    desk.ask(Query("q2", "list_ports"))
    await results.several(2)
    release.set()
    await until(lambda: all(thread.name != "query list_ports" for thread in threading.enumerate()))
    desk.ask(Query("q3", "list_ports"))
    await results.several(3)

    first, second, third = (each for each in results.kept if isinstance(each, QueryResult))
    assert "the host did not tell within 0.05 s" == first.error
    assert "still hangs" in second.error
    assert PORTS == third.ports


async def test_a_host_with_too_many_ports_still_has_an_answer(results: KeptResults) -> None:
    """What does not fit into a message would block everything behind it."""
    many = [OpenPort(1, "tcp", "x" * 100)] * (MAX_CHARS // 100 + 5)
    desk = QueryDesk(results, answers(lambda: many, lambda: SERVICES))
    desk.ask(Query("q1", "list_ports"))
    (result,) = await results.several(1)

    assert isinstance(result, QueryResult)
    assert 800 < len(result.ports) < MAX_CHARS // 100


async def test_an_answer_that_cannot_be_kept_may_be_asked_again(
    desk: QueryDesk, results: KeptResults
) -> None:
    """It was never given."""
    results.broken = DataDirectoryError("the disk is full")
    desk.ask(Query("q1", "list_ports"))
    await until(lambda: not any(task.get_name() == "query q1" for task in asyncio.all_tasks()))
    results.broken = None

    desk.ask(Query("q1", "list_ports"))

    await results.several(1)

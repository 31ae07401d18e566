"""What ``fleet.work_ports.QueryStore`` promises, and who may answer what."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from contract.work_values import WorkUnderTest, query
from ct_ops_server.fleet.dispatch import LiveStream
from ct_ops_server.fleet.items import OpenPort, QueryResult, ServiceState
from ct_ops_server.fleet.orders import MOST_OPEN_QUERIES
from ct_ops_server.fleet.work import AskedQuery
from ct_ops_server.fleet.work_ports import TooManyOpenError

ANSWER = QueryResult("q1", "list_ports", "", ports=(OpenPort(22, "tcp", "sshd"), OpenPort(53, "udp6", "")))


async def test_a_query_is_due_to_its_agents_stream_until_it_is_answered(work: WorkUnderTest) -> None:
    """And to nobody else's."""
    await work.enrol("a", "b")
    mine, theirs = await work.stream("a"), await work.stream("b")
    await work.queries.ask(query())
    due = await work.queries.due_queries([mine, theirs])

    assert {mine: (AskedQuery("q1", "list_ports"),)} == due
    assert [None] == await work.say("a", ANSWER)
    assert {} == await work.queries.due_queries([mine, theirs])


async def test_an_answer_is_kept_with_what_was_found(work: WorkUnderTest) -> None:
    """Ports or services, or why there is no answer."""
    await work.enrol("a")
    await work.queries.ask(query("q1"))
    await work.queries.ask(query("q2", query_type="list_services"))
    await work.queries.ask(query("q3"))
    services = (ServiceState("cron.service", "loaded", "active/running"),)
    await work.say(
        "a",
        ANSWER,
        QueryResult("q2", "list_services", "", services=services),
        QueryResult("q3", "list_ports", "ss is not installed"),
    )
    first, second, third = [await work.queries.find_query(each) for each in ("q1", "q2", "q3")]

    assert first is not None
    assert second is not None
    assert third is not None
    assert ANSWER.ports == first.ports
    assert services == second.services
    assert ("ss is not installed", ()) == (third.error, third.ports)
    assert "ada" == first.created_by
    assert first.answered_at is not None
    assert not first.is_overdue


async def test_only_the_first_answer_counts(work: WorkUnderTest) -> None:
    """A repeated one is taken for what it is; another one changes nothing."""
    await work.enrol("a")
    await work.queries.ask(query())
    other = replace(ANSWER, ports=())

    assert [None, None] == await work.say("a", ANSWER, other)
    assert [None] == await work.say("a", other)
    found = await work.queries.find_query("q1")
    assert found is not None
    assert ANSWER.ports == found.ports


@pytest.mark.parametrize("query_id", ["q1", "nothing"])
async def test_another_agents_query_cannot_be_answered(work: WorkUnderTest, query_id: str) -> None:
    """Nor told from one that does not exist, and the agent's own answers beside it are stored."""
    await work.enrol("a", "b")
    await work.queries.ask(query())
    await work.queries.ask(query("q2", "b"))
    forged, own = replace(ANSWER, query_id=query_id), replace(ANSWER, query_id="q2")

    assert ["not_yours", None] == await work.say("b", forged, own)
    found = await work.queries.find_query("q1")
    assert found is not None
    assert found.answered_at is None


async def test_an_answer_to_another_question_is_refused(work: WorkUnderTest) -> None:
    """Services are no ports."""
    await work.enrol("a")
    await work.queries.ask(query())

    assert ["wrong_type"] == await work.say("a", replace(ANSWER, query_type="list_services"))


async def test_a_query_whose_time_is_over_is_due_to_nobody_and_may_still_be_answered(
    work: WorkUnderTest,
) -> None:
    """What comes late is kept: it is true all the same."""
    await work.enrol("a")
    stream = await work.stream("a")
    await work.queries.ask(query())
    await work.let_query_end("q1")
    found = await work.queries.find_query("q1")

    assert {} == await work.queries.due_queries([stream])
    assert found is not None
    assert found.is_overdue
    assert [None] == await work.say("a", ANSWER)


async def test_a_fenced_stream_and_a_revoked_agent_are_due_nothing(work: WorkUnderTest) -> None:
    """What is pushed on a dead connection would be lost."""
    await work.enrol("a")
    old = await work.stream("a")
    young = await work.stream("a")
    await work.queries.ask(query())

    assert [young] == list(await work.queries.due_queries([old, young]))
    await work.revoke("a")
    assert {} == await work.queries.due_queries([old, young])


async def test_an_agent_that_does_not_answer_collects_no_questions(work: WorkUnderTest) -> None:
    """There is a limit, for each agent."""
    await work.enrol("a", "b")
    await asyncio.gather(*(work.queries.ask(query(f"q{number}")) for number in range(MOST_OPEN_QUERIES)))
    with pytest.raises(TooManyOpenError):
        await work.queries.ask(query("one too many"))

    await work.queries.ask(query("of another", "b"))
    await work.let_query_end("q0")
    await work.queries.ask(query("there is room again"))


async def test_a_deleted_agents_queries_go_with_it(work: WorkUnderTest) -> None:
    """A new table cannot block a deletion."""
    await work.enrol("a")
    await work.queries.ask(query())

    assert await work.agents.delete_agent("a", actor="ada", reason="")
    assert await work.queries.find_query("q1") is None


async def test_among_a_thousand_streams_the_one_with_a_query_is_found(work: WorkUnderTest) -> None:
    """And nothing that is due to an agent whose stream is elsewhere."""
    await work.enrol("a", "b")
    mine = await work.stream("a")
    others = [LiveStream(f"other-{number}", 1, frozenset()) for number in range(1_000)]
    assert {} == await work.queries.due_queries([mine, *others])
    await work.queries.ask(query())
    await work.queries.ask(query("q2", "b"))

    assert {mine: (AskedQuery("q1", "list_ports"),)} == await work.queries.due_queries([mine, *others])

"""Queries: a question about the host, answered once.

Servers push a question again until they have its answer, so an id is answered once a stream, and never
twice at the same time. On the next stream it may be asked again: with an existing server the answer may have
been lost with the stream, and reading again costs little. Each question has a deadline; what reads the host
runs in a thread of its own, and while one hangs no second one of its kind is started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from ct_ops_agent.apart import Apart
from ct_ops_agent.errors import AgentError
from ct_ops_agent.work import OpenPort, Query, QueryResult, Results, ServiceState

_log = logging.getLogger(__name__)

RowT = TypeVar("RowT")

DEADLINE_S = 30.0
"""Servers give up after two minutes."""

MAX_CHARS = 100_000
"""Of all the names in an answer: it has to fit into one batch. A thousand services are half of it."""

_ROW_CHARS = 12
MAX_ERROR_CHARS = 1_000
LIST_PORTS = "list_ports"
LIST_SERVICES = "list_services"


class ReadError(Exception):
    """The host does not tell; ``str()`` is a sentence for operators."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the host says to a question."""

    ports: tuple[OpenPort, ...] = ()
    services: tuple[ServiceState, ...] = ()


Answers: TypeAlias = Callable[[], Answer]


def answers(
    read_ports: Callable[[], Sequence[OpenPort]], read_services: Callable[[], Sequence[ServiceState]]
) -> Mapping[str, Answers]:
    """Return the questions that can be answered, by their names on the wire."""
    return {
        LIST_PORTS: lambda: Answer(ports=tuple(bounded(read_ports(), lambda port: port.process))),
        LIST_SERVICES: lambda: Answer(
            services=tuple(
                bounded(read_services(), lambda unit: unit.name + unit.load_state + unit.active_sub)
            )
        ),
    }


def bounded(rows: Sequence[RowT], text_of: Callable[[RowT], str]) -> Iterator[RowT]:
    """Yield as many rows as fit into an answer."""
    chars = 0
    for index, row in enumerate(rows):
        chars += len(text_of(row)) + _ROW_CHARS
        if chars > MAX_CHARS:
            _log.warning("only %d of %d rows fit into the answer to a query", index, len(rows))
            return
        yield row


class QueryDesk:
    """Answers questions."""

    def __init__(
        self, results: Results, known: Mapping[str, Answers], deadline_s: float = DEADLINE_S
    ) -> None:
        self._results = results
        self._known = known
        self._deadline_s = deadline_s
        self._answered: set[str] = set()
        self._asked: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, Apart[Answer]] = {}

    def new_stream(self) -> None:
        """What was answered on the stream before may be asked again."""
        self._answered.clear()

    def ask(self, query: Query) -> None:
        """Answer a question, unless that was done or is being done."""
        if query.query_id in self._answered or query.query_id in self._asked:
            return
        self._asked[query.query_id] = asyncio.create_task(self._answer(query), name=f"query {query.query_id}")

    async def stop(self) -> None:
        """Answer nothing more."""
        ending = list(self._asked.values())
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _answer(self, query: Query) -> None:
        try:
            await self._results.put(await self._result(query))
            self._answered.add(query.query_id)
        except AgentError as error:
            _log.warning("the answer to query %s is lost: %s", query.query_id, error)
        finally:
            del self._asked[query.query_id]

    async def _result(self, query: Query) -> QueryResult:
        empty = QueryResult(query.query_id, query.query_type)
        known = self._known.get(query.query_type)
        if known is None:
            asked, names = query.query_type[:64], ", ".join(self._known)
            return replace(empty, error=f"this agent does not know {asked!r}; it knows {names}")
        try:
            answer = await self._read(query.query_type, known)
        except ReadError as error:
            return replace(empty, error=str(error)[:MAX_ERROR_CHARS])
        return replace(empty, ports=answer.ports, services=answer.services)

    async def _read(self, query_type: str, known: Answers) -> Answer:
        last = self._last.get(query_type)
        if last is not None and last.is_alive:
            raise ReadError(f"the {query_type} before this one still hangs; nothing is read beside it")
        self._last[query_type] = reading = Apart(f"query {query_type}", known)
        try:
            return await reading.wait(self._deadline_s)
        except ReadError:
            raise
        except TimeoutError:
            raise ReadError(f"the host did not tell within {self._deadline_s:g} s") from None
        except Exception as error:
            _log.exception("query %s failed", query_type)
            raise ReadError(f"reading the host failed: {type(error).__name__}: {error}") from error

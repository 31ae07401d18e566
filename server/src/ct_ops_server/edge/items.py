"""From the wire to ``fleet.items``: what agents deliver, made storable, or refused by index. Pure.

Results of our agents come in a numbered batch, those of existing agents in fields 13 to 16 of their frames;
both become the same values here. Rule 15 holds as in ``edge.convert``, with two differences:

* An item with a time that cannot be, a value that is no number or a series that is none is *refused*, not
  bent: a sample at another time would be a lie, and a refusal is recorded for operators and forgotten by
  the agent.
* Outputs keep their lines, and their length: chunks of a task's output lie at offsets of characters.
  Other control characters become U+FFFD one by one, for all of this ends up in terminals (rule 16).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from itertools import chain

from google.protobuf.message import DecodeError

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.series import SeriesError, parse_series
from ct_ops_server.edge.convert import clean_text, storable_int
from ct_ops_server.fleet.delivery import MOST_EXAMPLE_CHARS, MalformedItem
from ct_ops_server.fleet.items import (
    CheckResult,
    CheckStatus,
    CollectorState,
    Gap,
    Item,
    OpenPort,
    QueryResult,
    Sample,
    ServiceState,
    TaskAccepted,
    TaskProgress,
    TaskResult,
)

MOST_ITEMS = 10_000
"""In one batch; the rest of a larger one is refused."""

_YEAR_2000_MS = 946_684_800_000
_DAY_MS = 86_400_000
_LARGEST_INT = 2**63 - 1
_LARGEST_ATTEMPT = 2**31 - 1
_ID_CHARS = 255
_UNIT_CHARS = 32
_GAP_TYPE_CHARS = 64
_REASON_CHARS = 255
_OUTPUT_CHARS = 64 * 1024
_RESULT_CHARS = 512 * 1024
_PORTS = 65_536
_LARGEST_PORT = 65_535
_SERVICES = 16_384
_KNOWN_SERIES = 16_384
_COLLECTORS = 256
_PROBLEM_CHARS = 500
_COLLECTOR_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

# Everything that moves a cursor or hides text; tab and line feed stay.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)

_CHECK_STATUSES = frozenset(CheckStatus)

_Candidate = tuple[str, str, Callable[[], Item]]
"""Kind, what it is about, and how to read it: raises ``_MalformedError``."""


class _MalformedError(Exception):
    """It is no item. The text is the reason."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a batch, or an existing agent's frame, delivers."""

    items: tuple[tuple[int, Item], ...] = ()
    malformed: tuple[MalformedItem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.items or self.malformed)


_NOTHING = Received()


def items_of_batch(payload: bytes, now: datetime) -> Received:
    """Return the items of a batch's payload, indexed over its results, then its samples, then its gaps.

    A payload that cannot be read counts as one malformed item: its batch has a number and would come
    again for ever.
    """
    try:
        body = wire.BatchBody.FromString(payload)
    except DecodeError:
        return Received(malformed=(MalformedItem(0, "batch", "malformed"),))
    latest_ms = _latest_ms(now)
    return _collect(
        chain(
            (_candidate_of_result(result, latest_ms) for result in body.results),
            (("sample", sample.series, partial(_sample, sample, latest_ms)) for sample in body.samples),
            (("gap", gap.type, partial(_gap, gap, latest_ms)) for gap in body.gaps),
        )
    )


def items_of_frame(frame: wire.HeartbeatRequest, now: datetime) -> Received:
    """Return the results that an existing agent sends beside its vitals."""
    if not (frame.check_results or frame.query_results or frame.task_progress or frame.task_results):
        return _NOTHING  # nearly every frame
    latest_ms = _latest_ms(now)
    return _collect(
        chain(
            (
                ("check_result", result.check_id, partial(_check_result, result, latest_ms))
                for result in frame.check_results
            ),
            (
                ("query_result", result.query_id, partial(_query_result, result))
                for result in frame.query_results
            ),
            (
                ("task_progress", progress.task_id, partial(_task_progress, progress, counts_offsets=False))
                for progress in frame.task_progress
            ),
            (("task_result", result.task_id, partial(_task_result, result)) for result in frame.task_results),
        )
    )


def collectors_of(report: wire.CollectorReport) -> tuple[CollectorState, ...]:
    """Return what an agent says of its collectors: the last word on each name, at most 256 of them."""
    states = {
        each.name: CollectorState(
            name=each.name,
            interval_ms=each.interval_ms,
            problem=clean_text(each.problem, _PROBLEM_CHARS),
        )
        for each in report.collectors[:_COLLECTORS]
        if _COLLECTOR_NAME.fullmatch(each.name)
    }
    return tuple(states.values())


def storable_output(text: str, longest: int = _OUTPUT_CHARS) -> str:
    """Return a text of lines, as long as it was up to ``longest``, without what a terminal obeys."""
    return _CONTROL.sub(_shown, text[:longest])


def _shown(control: re.Match[str]) -> str:
    return " " if control[0] == "\r" else "\ufffd"


def _collect(candidates: Iterable[_Candidate]) -> Received:
    items: list[tuple[int, Item]] = []
    malformed: list[MalformedItem] = []
    for index, (kind, subject, read) in enumerate(candidates):
        try:
            items.append((index, read() if index < MOST_ITEMS else _one_too_many()))
        except _MalformedError as reason:
            malformed.append(MalformedItem(index, kind, str(reason), clean_text(subject, MOST_EXAMPLE_CHARS)))
    return Received(tuple(items), tuple(malformed))


def _one_too_many() -> Item:
    raise _MalformedError("too_many_items")


def _candidate_of_result(result: wire.ResultItem, latest_ms: int) -> _Candidate:
    match result.WhichOneof("item"):
        case "check_result":
            check = result.check_result
            return "check_result", check.check_id, partial(_check_result, check, latest_ms)
        case "query_result":
            return "query_result", result.query_result.query_id, partial(_query_result, result.query_result)
        case "task_progress":
            progress = result.task_progress
            read = partial(_task_progress, progress, counts_offsets=True)
            return "task_progress", progress.task_id, read
        case "task_result":
            return "task_result", result.task_result.task_id, partial(_task_result, result.task_result)
        case "task_accepted":
            accepted = result.task_accepted
            return "task_accepted", accepted.task_id, partial(_task_accepted, accepted)
        case _:
            return "result", "", _unknown_result


def _unknown_result() -> Item:
    raise _MalformedError("unsupported")


def _check_result(message: wire.CheckResult, latest_ms: int) -> CheckResult:
    if message.status not in _CHECK_STATUSES:
        raise _MalformedError("malformed")
    return CheckResult(
        check_id=_identifier(message.check_id),
        status=CheckStatus(message.status),
        output=storable_output(message.output),
        duration_ms=max(message.duration_ms, 0),
        ran_at_ms=_time(message.ran_at_ms or message.ran_at_unix * 1_000, latest_ms),
    )


def _query_result(message: wire.AgentQueryResult) -> QueryResult:
    error = storable_output(message.error)
    return QueryResult(
        query_id=_identifier(message.query_id),
        query_type=clean_text(message.query_type, _ID_CHARS),
        error=error if message.status == "ok" or error else "the agent gave no reason",
        ports=tuple(
            OpenPort(port.port, clean_text(port.protocol, _ID_CHARS), clean_text(port.process))
            for port in message.ports[:_PORTS]
            if 0 <= port.port <= _LARGEST_PORT
        ),
        services=tuple(
            ServiceState(clean_text(each.name), clean_text(each.load_state), clean_text(each.active_sub))
            for each in message.services[:_SERVICES]
        ),
    )


def _task_accepted(message: wire.TaskAccepted) -> TaskAccepted:
    return TaskAccepted(_identifier(message.task_id), _attempt(message.attempt))


def _task_progress(message: wire.AgentTaskProgress, *, counts_offsets: bool) -> TaskProgress:
    if message.offset > _LARGEST_INT:
        raise _MalformedError("malformed")
    return TaskProgress(
        task_id=_identifier(message.task_id),
        attempt=_attempt(message.attempt),
        offset=message.offset if counts_offsets else None,
        chunk=storable_output(message.output_chunk),
    )


def _task_result(message: wire.AgentTaskResult) -> TaskResult:
    # Half a document is none: one that is too long is left out, the task still ends.
    document = message.result_json if len(message.result_json) <= _RESULT_CHARS else ""
    return TaskResult(
        task_id=_identifier(message.task_id),
        task_type=clean_text(message.task_type, _ID_CHARS),
        attempt=_attempt(message.attempt),
        exit_code=message.exit_code,
        result_json=storable_output(document, _RESULT_CHARS),
        error=storable_output(message.error),
        refused=clean_text(message.refused, _ID_CHARS),
    )


def _sample(message: wire.Sample, latest_ms: int) -> Sample:
    if not math.isfinite(message.value) or not _is_series(message.series):
        raise _MalformedError("malformed")
    return Sample(
        series=message.series,
        at_ms=_time(message.ts_ms, latest_ms),
        value=message.value,
        unit=clean_text(message.unit, _UNIT_CHARS),
    )


def _gap(message: wire.Gap, latest_ms: int) -> Gap:
    """Gaps are never refused: a host whose clock is wrong still has to say what it lost."""
    return Gap(
        type=clean_text(message.type, _GAP_TYPE_CHARS),
        count=storable_int(message.count),
        from_ms=min(storable_int(message.from_ms), latest_ms),
        to_ms=min(storable_int(message.to_ms), latest_ms),
        reason=clean_text(message.reason, _REASON_CHARS),
    )


@lru_cache(_KNOWN_SERIES)
def _is_series(text: str) -> bool:
    try:
        parse_series(text)
    except SeriesError:
        return False
    return _CONTROL.search(text) is None


def _identifier(text: str) -> str:
    """Return an id that can be one of ours: printable, not empty, not long."""
    if not text or len(text) > _ID_CHARS or not text.isprintable():
        raise _MalformedError("malformed")
    return text


def _attempt(attempt: int) -> int:
    if attempt > _LARGEST_ATTEMPT:
        raise _MalformedError("malformed")
    return attempt


def _time(at_ms: int, latest_ms: int) -> int:
    if not _YEAR_2000_MS <= at_ms <= latest_ms:
        raise _MalformedError("time_out_of_range")
    return at_ms


def _latest_ms(now: datetime) -> int:
    return int(now.timestamp() * 1_000) + _DAY_MS

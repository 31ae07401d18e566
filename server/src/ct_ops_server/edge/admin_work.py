"""The part of the admin API that asks agents questions and gives them tasks.

Who waits for an answer asks with ``wait_s``: the request is held until there is news, for at most so long. The
database is looked at meanwhile, first often and then less so; that is the price of a command that waits, and
of nobody else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ct_ops_server.edge.actors import Actor
from ct_ops_server.edge.admin_views import rfc3339
from ct_ops_server.fleet.orders import (
    LONGEST_QUERY,
    QUERY_LIFETIME,
    PackageRecord,
    QueryRecord,
    TaskOutput,
    TaskRecord,
)
from ct_ops_server.fleet.tasks import LONGEST, USUAL
from ct_ops_server.fleet.work_desk import (
    NoSuchQueryError,
    NoSuchTaskError,
    OfflineError,
    UnknownTypeError,
    WorkDesk,
    WorkError,
)

_FIRST_LOOK_S = 0.01
_SLOWER = 1.5
_LAST_LOOK_S = 0.25
_Wait = Annotated[float, Query(ge=0, le=20)]
_Found = TypeVar("_Found")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor: Actor


class QueryRequest(_Body):
    """Body of ``POST /v1/agents/{selector}/queries``."""

    type: str
    expires_in_s: Annotated[float, Field(ge=1, le=LONGEST_QUERY.total_seconds())] = (
        QUERY_LIFETIME.total_seconds()
    )


class TaskRequest(_Body):
    """Body of ``POST /v1/agents/{selector}/tasks``."""

    type: str
    expires_in_s: Annotated[float, Field(gt=0, le=LONGEST.total_seconds())] = USUAL.total_seconds()


def add_work(app: FastAPI, desk: WorkDesk) -> None:
    """Add the routes and the errors of queries, tasks and inventories."""
    _add_queries(app, desk)
    _add_tasks(app, desk)

    @app.get("/v1/agents/{selector}/packages")
    async def list_packages(
        selector: str, name: str | None = None, *, removed: bool = False
    ) -> list[dict[str, Any]]:
        _, found = await desk.packages(selector, name=name, removed=removed)
        return [package_view(record) for record in found]

    @app.exception_handler(WorkError)
    async def work_error(_: Request, error: WorkError) -> JSONResponse:
        status, code = _status_of(error)
        return JSONResponse({"error": {"code": code, "message": str(error)}}, status_code=status)


def _add_queries(app: FastAPI, desk: WorkDesk) -> None:
    @app.post("/v1/agents/{selector}/queries", status_code=201)
    async def ask(selector: str, body: QueryRequest) -> dict[str, Any]:
        lifetime = timedelta(seconds=body.expires_in_s)
        return query_view(await desk.ask(selector, body.type, actor=body.actor, lifetime=lifetime))

    @app.get("/v1/queries/{query_id}")
    async def show_query(query_id: str, wait_s: _Wait = 0) -> dict[str, Any]:
        async def read() -> QueryRecord:
            return await desk.query(query_id)

        found = await _read_until(read, lambda query: not query.is_waiting, wait_s)
        return query_view(found)


def _add_tasks(app: FastAPI, desk: WorkDesk) -> None:
    @app.post("/v1/agents/{selector}/tasks", status_code=201)
    async def give(selector: str, body: TaskRequest) -> dict[str, Any]:
        lifetime = timedelta(seconds=body.expires_in_s)
        return task_view(await desk.give(selector, body.type, actor=body.actor, lifetime=lifetime))

    @app.get("/v1/tasks")
    async def list_tasks(
        agent: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
    ) -> list[dict[str, Any]]:
        return [task_view(task) for task in await desk.tasks(agent, limit=limit)]

    @app.get("/v1/tasks/{selector}")
    async def show_task(
        selector: str, output_from: Annotated[int, Query(ge=0)] = 0, known: str = "", wait_s: _Wait = 0
    ) -> dict[str, Any]:
        """Return a task with its output from ``output_from`` on; wait for more, or another state than known."""

        async def read() -> TaskRecord:
            return await desk.task(selector)

        def is_news(task: TaskRecord) -> bool:
            told = f"{task.state} {task.attempt}"
            return told != known or task.output_chars > output_from or not task.state.is_open

        task = await _read_until(read, is_news, wait_s)
        output = await desk.output(task.id, start=output_from)
        return {**task_view(task), "output": output_view(output)}

    @app.post("/v1/tasks/{selector}/cancel")
    async def cancel(selector: str, body: _Body) -> dict[str, Any]:
        return task_view(await desk.cancel(selector, actor=body.actor))


async def _read_until(
    read: Callable[[], Awaitable[_Found]], is_ready: Callable[[_Found], bool], wait_s: float
) -> _Found:
    """Read until what is found is ready, for at most so long; return what was found last."""
    now_s = asyncio.get_running_loop().time
    deadline_s, pause_s = now_s() + wait_s, _FIRST_LOOK_S
    while not is_ready(found := await read()) and now_s() < deadline_s:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * _SLOWER, _LAST_LOOK_S)
    return found


def _status_of(error: WorkError) -> tuple[int, str]:
    match error:
        case NoSuchTaskError() | NoSuchQueryError():
            return 404, "not_found"
        case UnknownTypeError():
            return 422, "malformed"
        case OfflineError():
            return 503, "offline"
        case _:
            return 409, "conflict"


def query_view(query: QueryRecord) -> dict[str, Any]:
    """Return a query as an object."""
    return {
        "id": query.id,
        "agent_id": query.agent_id,
        "type": query.query_type,
        "state": query.state,
        "created_at": rfc3339(query.created_at),
        "created_by": query.created_by,
        "expires_at": rfc3339(query.expires_at),
        "answered_at": rfc3339(query.answered_at),
        "error": query.error,
        "ports": [
            {"port": each.port, "protocol": each.protocol, "process": each.process} for each in query.ports
        ],
        "services": [
            {"name": each.name, "load_state": each.load_state, "active_sub": each.active_sub}
            for each in query.services
        ],
    }


def task_view(task: TaskRecord) -> dict[str, Any]:
    """Return a task as an object."""
    return {
        "id": task.id,
        "agent_id": task.agent_id,
        "hostname": task.hostname,
        "type": task.task_type,
        "state": task.state.value,
        "is_over": not task.state.is_open,
        "attempt": task.attempt,
        "created_at": rfc3339(task.created_at),
        "created_by": task.created_by,
        "expires_at": rfc3339(task.expires_at),
        "sent_at": rfc3339(task.sent_at),
        "accepted_at": rfc3339(task.accepted_at),
        "ended_at": rfc3339(task.ended_at),
        "cancelled_by": task.cancelled_by,
        "exit_code": task.exit_code,
        "result": _document(task.result_json),
        "error": task.error,
        "refused": task.refused,
        "output_chars": task.output_chars,
        "output_is_cut": task.output_is_cut,
    }


def output_view(output: TaskOutput) -> dict[str, Any]:
    """Return a piece of a task's output as an object."""
    return {
        "attempt": output.attempt,
        "starts_at": output.starts_at,
        "ends_at": output.ends_at,
        "text": output.text,
    }


def package_view(record: PackageRecord) -> dict[str, Any]:
    """Return a package of a host as an object."""
    package = record.package
    return {
        "name": package.name,
        "version": package.version,
        "architecture": package.architecture,
        "source": package.source,
        "publisher": package.publisher,
        "installed_at": rfc3339(record.installed_at),
        "first_seen_at": rfc3339(record.first_seen_at),
        "last_seen_at": rfc3339(record.last_seen_at),
        "returned_at": rfc3339(record.returned_at),
        "removed_at": rfc3339(record.removed_at),
    }


def _document(text: str) -> Any:
    """Return what an agent calls JSON, or its text when it is none."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text

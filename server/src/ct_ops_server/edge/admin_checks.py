"""The part of the admin API that is about checks: routes, bodies, and how a check is shown.

What a check is told is shown with its secrets masked, whoever asks: there is no way to read them back.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ct_ops_server.config.duration import LONGEST
from ct_ops_server.edge.actors import Actor
from ct_ops_server.edge.admin_views import rfc3339
from ct_ops_server.fleet.check_model import DEFAULT_INTERVAL, Check, StoredResult
from ct_ops_server.fleet.checks import CheckDesk, CheckError, CheckNotFoundError, Definition, Shown
from ct_ops_server.fleet.items import CheckStatus

_Seconds = Annotated[float, Field(ge=0, le=LONGEST.total_seconds())]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor: Actor


class CheckRequest(_Body):
    """Body of ``POST /v1/agents/{selector}/checks``: its form; whether it makes sense is for the desk."""

    type: str
    config: dict[str, Any]
    name: str = ""
    interval_s: _Seconds = DEFAULT_INTERVAL.total_seconds()
    timeout_s: _Seconds = 0

    def definition(self) -> Definition:
        """Return what was said, not validated yet."""
        return Definition(
            type=self.type,
            config=self.config,
            name=self.name.strip(),
            interval=timedelta(seconds=self.interval_s),
            timeout=timedelta(seconds=self.timeout_s),
        )


class _Switch(StrEnum):
    ENABLE = "enable"
    DISABLE = "disable"


def add_checks(app: FastAPI, desk: CheckDesk) -> None:
    """Add the routes and the errors of checks."""
    _add_definitions(app, desk)
    _add_results(app, desk)

    @app.exception_handler(CheckError)
    async def check_error(_: Request, error: CheckError) -> JSONResponse:
        missing = isinstance(error, CheckNotFoundError)
        code, status = ("not_found", 404) if missing else ("conflict", 409)
        return JSONResponse({"error": {"code": code, "message": str(error)}}, status_code=status)


def _add_definitions(app: FastAPI, desk: CheckDesk) -> None:
    def shown(check: Check) -> dict[str, Any]:
        return check_view(check, desk.shown(check))

    @app.post("/v1/agents/{selector}/checks", status_code=201)
    async def add_check(selector: str, body: CheckRequest) -> dict[str, Any]:
        return shown(await desk.add(selector, body.definition(), actor=body.actor))

    @app.get("/v1/checks")
    async def list_checks(agent: str | None = None) -> list[dict[str, Any]]:
        return [shown(check) for check in await desk.list(agent)]

    @app.get("/v1/checks/{selector}")
    async def show_check(selector: str) -> dict[str, Any]:
        check = await desk.find(selector)
        latest = await desk.results(check.id, newer_than=None, limit=1)
        return {**shown(check), "output": latest[0].output if latest else None}

    @app.post("/v1/checks/{selector}/{decision}")
    async def switch_check(selector: str, decision: _Switch, body: _Body) -> dict[str, Any]:
        switched = await desk.switch(selector, enabled=decision is _Switch.ENABLE, actor=body.actor)
        return {**shown(switched.check), "was_so_before": switched.already}

    @app.delete("/v1/checks/{selector}")
    async def remove_check(selector: str, body: _Body) -> dict[str, Any]:
        return shown(await desk.remove(selector, actor=body.actor))


def _add_results(app: FastAPI, desk: CheckDesk) -> None:
    @app.get("/v1/check-results/{selector}")
    async def list_results(
        selector: str,
        since_s: Annotated[float, Query(gt=0, le=LONGEST.total_seconds())] | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> list[dict[str, Any]]:
        newer_than = None if since_s is None else timedelta(seconds=since_s)
        found = await desk.results(selector, newer_than=newer_than, limit=limit)
        return [result_view(result) for result in found]


def check_view(check: Check, shown: Shown) -> dict[str, Any]:
    """Return a check as an object."""
    state = check.state
    failing = state is not None and state.status is not CheckStatus.PASS
    return {
        "id": check.id,
        "agent_id": check.agent_id,
        "hostname": check.hostname,
        "name": check.name,
        "type": check.type,
        "config": dict(shown.config),
        "existing_agents_ignore": list(shown.existing_agents_ignore),
        "interval_s": int(check.interval.total_seconds()),
        "timeout_s": check.timeout.total_seconds() or None,
        "enabled": check.enabled,
        "status": None if state is None else state.status.value,
        "since": None if state is None else rfc3339(state.since),
        "failing_since": rfc3339(state.since) if failing and state is not None else None,
        "last_run_at": None if state is None else rfc3339(state.ran_at),
        "acknowledged_at": None if state is None else rfc3339(state.acknowledged_at),
        "created_at": rfc3339(check.created_at),
        "created_by": check.created_by,
        "changed_at": rfc3339(check.changed_at),
        "changed_by": check.changed_by,
    }


def result_view(result: StoredResult) -> dict[str, Any]:
    """Return a result as an object."""
    return {
        "agent_id": result.agent_id,
        "check_id": result.check_id,
        "name": result.name,
        "status": result.status.value,
        "output": result.output,
        "duration_ms": round(result.duration.total_seconds() * 1000),
        "ran_at": rfc3339(result.ran_at),
        "received_at": rfc3339(result.received_at),
    }

"""The part of the admin API that is about the server CA, which agents believe."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from ct_ops_server.authority.server_ca import StepError
from ct_ops_server.edge.actors import Actor
from ct_ops_server.fleet.following import Following
from ct_ops_server.fleet.server_ca_desk import (
    CaView,
    ServerCaDesk,
    ServerCaOverview,
    Step,
    TooFewFollowError,
)


class ServerCaStepRequest(BaseModel):
    """Body of ``POST /v1/server-ca/{step}``."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor
    force: bool = False


def add_server_ca(app: FastAPI, desk: ServerCaDesk) -> None:
    """Add the routes and the errors of the server CA."""

    @app.get("/v1/server-ca")
    async def show_server_ca() -> dict[str, Any]:
        return server_ca_view(await desk.overview())

    @app.post("/v1/server-ca/{step}")
    async def take_server_ca_step(step: Step, body: ServerCaStepRequest) -> dict[str, Any]:
        return server_ca_view(await desk.take(step, force=body.force, actor=body.actor))

    @app.exception_handler(StepError)
    @app.exception_handler(TooFewFollowError)
    async def server_ca_refused(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": {"code": "conflict", "message": str(error)}}, status_code=409)


def server_ca_view(overview: ServerCaOverview) -> dict[str, Any]:
    """Return everything as an object."""
    due = overview.activates_by_itself_at
    return {
        "configured": not overview.is_our_own,
        "pin_is_leaf": overview.pin_is_leaf,
        "vouched": overview.vouched,
        "activates_by_itself_at": None if due is None else _seconds(due),
        "certificate_not_after": _seconds(overview.certificate_not_after),
        "existing_agents_until": _seconds(overview.existing_end),
        "problem": overview.problem,
        "nodes_behind": list(overview.nodes_behind),
        "authorities": [_ca_view(each) for each in overview.cas],
    }


def _ca_view(ca: CaView) -> dict[str, Any]:
    return {
        "sha256": ca.sha256.hex(),
        "subject": ca.subject,
        "role": ca.role,
        "not_after": _seconds(ca.not_after),
        **_following_view(ca.following),
    }


def _following_view(following: Following) -> dict[str, Any]:
    return {
        "agents": following.agents,
        "believed_by": following.following,
        "share": following.share,
        "existing_agents": following.existing,
        "configured_elsewhere": following.configured,
        "not_believed_by": list(following.names),
    }


def _seconds(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")

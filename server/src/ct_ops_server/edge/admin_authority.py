"""The part of the admin API that is about the authority: what there is, the next step, and taking it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ct_ops_server.authority.life_cycle import Held, Kind, NoStepError, Step, transition_of
from ct_ops_server.authority.ports import TrustChangedError
from ct_ops_server.authority.recognition import NotRecognisedError
from ct_ops_server.authority.rotation import (
    AuthorityDesk,
    AuthorityView,
    Overview,
    Preview,
    StepRefusedError,
)
from ct_ops_server.edge.actors import Actor

_Pem = Annotated[str, Field(max_length=256 * 1024)]


class StepRequest(BaseModel):
    """Body of ``POST /v1/authority/{kind}/{step}``."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor
    version: int
    force: bool = False
    certificates: _Pem | None = None
    private_key: Annotated[_Pem | None, Field(repr=False)] = None


class RecogniseRequest(BaseModel):
    """Body of ``POST /v1/recognised-authorities``."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor
    pem: _Pem


def add_authority(app: FastAPI, desk: AuthorityDesk) -> None:
    """Add the routes and the errors of the authority."""

    @app.get("/v1/authority")
    async def show() -> dict[str, Any]:
        return overview_view(await desk.overview())

    @app.get("/v1/authority/{kind}/next")
    async def preview(kind: Kind, *, back: bool = False) -> dict[str, Any]:
        return preview_view(await desk.preview(kind, back=back))

    @app.post("/v1/authority/{kind}/{step}")
    async def take(kind: Kind, step: Step, body: StepRequest) -> dict[str, Any]:
        brought = None
        if body.certificates is not None and body.private_key is not None:
            brought = (body.certificates, body.private_key)
        taken = await desk.take(
            kind, step, version=body.version, actor=body.actor, force=body.force, brought=brought
        )
        return preview_view(taken)

    @app.post("/v1/recognised-authorities")
    async def recognise(body: RecogniseRequest) -> dict[str, Any]:
        return {"recognised": await desk.recognise(body.pem, actor=body.actor)}

    @app.exception_handler(StepRefusedError)
    @app.exception_handler(NotRecognisedError)
    @app.exception_handler(NoStepError)
    @app.exception_handler(TrustChangedError)
    async def refused(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": {"code": "conflict", "message": str(error)}}, status_code=409)


def overview_view(overview: Overview) -> dict[str, Any]:
    """Return everything as an object."""
    return {
        "version": overview.version,
        "agents": overview.agents,
        "authorities": [_authority_view(each, overview.agents) for each in overview.authorities],
        "signing_keys": [held_view(each) for each in overview.signing_keys],
        "workers_behind": [{"worker_id": each.worker_id, "node": each.node} for each in overview.stragglers],
    }


def _authority_view(view: AuthorityView, agents: int) -> dict[str, Any]:
    return {
        "name": view.name,
        "state": view.state.value,
        "since": _seconds(view.since),
        "subject": view.subject,
        "not_before": _seconds(view.not_before),
        "not_after": _seconds(view.not_after),
        "chain_length": view.chain_length,
        "agents": view.agents,
        "agents_with_good_leaf": view.good,
        "share": view.agents / agents if agents else None,
    }


def held_view(held: Held) -> dict[str, Any]:
    """Return one that is known as an object."""
    return {"name": held.name, "state": held.state.value, "since": _seconds(held.since)}


def preview_view(preview: Preview) -> dict[str, Any]:
    """Return a step as an object."""
    plan = preview.plan
    return {
        "kind": plan.kind.value,
        "step": plan.step.value,
        "meaning": transition_of(plan.step).meaning,
        "subject": None if plan.subject is None else held_view(plan.subject),
        "active": None if preview.active is None else held_view(preview.active),
        "objections": [
            {"message": each.sentence, "can_be_forced": each.can_be_forced} for each in preview.objections
        ],
        "version": preview.version,
    }


def _seconds(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")

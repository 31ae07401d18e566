"""The part of the admin API that makes agents renew their leaves now (``fleet.hurry``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from ct_ops_server.edge.actors import Actor
from ct_ops_server.edge.admin_views import rfc3339
from ct_ops_server.fleet.hurry import STEP_TOPIC, Hurry, HurryStore


class HurryRequest(BaseModel):
    """Body of ``POST /v1/hurry`` and of ``POST /v1/hurry/stop``."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor


def add_hurry(app: FastAPI, store: HurryStore, hint: Callable[[str], None]) -> None:
    """Add the routes; ``hint`` tells the push bus of this process."""

    async def shown() -> dict[str, Any]:
        found = await store.hurry()
        return {"hurry": None if found is None else hurry_view(found)}

    @app.get("/v1/hurry")
    async def show_hurry() -> dict[str, Any]:
        return await shown()

    @app.post("/v1/hurry")
    async def start_hurry(body: HurryRequest) -> dict[str, Any]:
        await store.start_hurry(actor=body.actor)
        hint(STEP_TOPIC)
        return await shown()

    @app.post("/v1/hurry/stop")
    async def stop_hurry(body: HurryRequest) -> dict[str, Any]:
        await store.stop_hurry(actor=body.actor)
        return await shown()


def hurry_view(hurry: Hurry) -> dict[str, Any]:
    """Return a hurry as an object."""
    return {
        "authority": hurry.target.hex(),
        "state": hurry.state.value,
        "reason": hurry.reason,
        "started_by": hurry.started_by,
        "started_at": rfc3339(hurry.started_at),
        "asked": hurry.asked,
        "back": hurry.back,
        "missing": list(hurry.missing),
        "remaining": hurry.remaining,
        "left_alone_on_windows": hurry.left_alone,
    }

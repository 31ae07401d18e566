"""The part of the admin API that is about clones: agents in quarantine, and the evidence of each side."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from ct_ops_server.edge.actors import Actor
from ct_ops_server.edge.admin_views import agent_view, rfc3339
from ct_ops_server.fleet.clones import Clone, CloneDesk
from ct_ops_server.fleet.sides import SENTENCES, Side, SideLog, Sighting, is_alive, likely_original

_SENTENCES = {proof.value: sentence for proof, sentence in SENTENCES.items()}
"""Of a proof that only a newer node knows, its word."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor: Actor
    reason: Annotated[str, Field(max_length=500)] = ""


class SplitRequest(_Body):
    """Body of ``POST /v1/agents/{selector}/split``."""

    keep: Annotated[str, Field(max_length=200)] = ""


class SuccessionRequest(_Body):
    """Body of ``POST /v1/agents/{selector}/merge`` and ``…/replace``."""

    other: Annotated[str, Field(min_length=1, max_length=300)]


def add_clones(app: FastAPI, desk: CloneDesk) -> None:
    """Add the routes."""

    @app.post("/v1/agents/{selector}/split")
    async def split(selector: str, body: SplitRequest) -> dict[str, Any]:
        done = await desk.split(selector, keep=body.keep, actor=body.actor, reason=body.reason)
        return {
            **agent_view(done.agent),
            "kept": side_view(done.kept),
            "others": [side_view(side) for side in done.others],
        }

    @app.post("/v1/agents/{selector}/merge")
    async def merge(selector: str, body: SuccessionRequest) -> dict[str, Any]:
        return agent_view(await desk.merge(selector, body.other, actor=body.actor, reason=body.reason))

    @app.post("/v1/agents/{selector}/replace")
    async def replace(selector: str, body: SuccessionRequest) -> dict[str, Any]:
        return agent_view(await desk.replace(selector, body.other, actor=body.actor, reason=body.reason))

    @app.get("/v1/clones")
    async def list_clones() -> list[dict[str, Any]]:
        return [clone_view(clone) for clone in await desk.list()]


def clone_view(clone: Clone) -> dict[str, Any]:
    """Return an agent in quarantine as an object."""
    log = clone.log
    return {
        "id": clone.agent.id,
        "hostname": clone.agent.hostname,
        "quarantined_at": _moment(log.since_ms),
        "proof": log.why,
        "why": _SENTENCES.get(log.why, log.why),
        "sides": sides_view(log),
        "other_sides": log.others,
    }


def sides_view(log: SideLog) -> list[dict[str, Any]]:
    """Return the sides of an agent, in the order in which they were first seen."""
    original = likely_original(log)
    return [
        _side_view(each, is_original=place == original, alive=is_alive(log, each))
        for place, each in enumerate(log.seen)
    ]


def _side_view(sighting: Sighting, *, is_original: bool, alive: bool) -> dict[str, Any]:
    return {
        "likely_original": is_original,
        "alive": alive,
        **side_view(sighting.side),
        "first_seen_at": _moment(sighting.first_ms),
        "last_seen_at": _moment(sighting.last_ms),
        "streams": sighting.openings,
        "came_back_at": _moment(sighting.came_back_ms),
    }


def side_view(side: Side) -> dict[str, Any]:
    """Return what one side said about itself as an object."""
    return {
        "ours": bool(side.process_id),
        "address": side.address,
        "hostname": side.hostname,
        "boot_id": side.boot_id,
        "machine_id": side.machine_id,
        "process_id": side.process_id,
        "outbox_id": side.outbox_id,
        "mac_addresses": list(side.macs),
        "booted_at": _moment(side.booted_at_s * 1000),
        "agent_version": side.version,
    }


def _moment(milliseconds: int) -> str | None:
    return rfc3339(datetime.fromtimestamp(milliseconds / 1000, UTC)) if milliseconds else None

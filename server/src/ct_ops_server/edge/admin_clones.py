"""The part of the admin API that is about clones: agents in quarantine, and the evidence of each side."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI

from ct_ops_server.edge.admin_views import rfc3339
from ct_ops_server.fleet.clones import Clone, CloneDesk
from ct_ops_server.fleet.sides import SENTENCES, Proof, SideLog, Sighting, likely_original


def add_clones(app: FastAPI, desk: CloneDesk) -> None:
    """Add the routes."""

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
        "why": SENTENCES[Proof(log.why)] if log.why else "",
        "sides": sides_view(log),
        "other_sides": log.others,
    }


def sides_view(log: SideLog) -> list[dict[str, Any]]:
    """Return the sides of an agent, in the order in which they were first seen."""
    original = likely_original(log)
    return [_side_view(each, is_original=place == original) for place, each in enumerate(log.seen)]


def _side_view(sighting: Sighting, *, is_original: bool) -> dict[str, Any]:
    side = sighting.side
    return {
        "likely_original": is_original,
        "address": side.address,
        "hostname": side.hostname,
        "boot_id": side.boot_id,
        "machine_id": side.machine_id,
        "process_id": side.process_id,
        "outbox_id": side.outbox_id,
        "mac_addresses": list(side.macs),
        "booted_at": _moment(side.booted_at_s * 1000),
        "agent_version": side.version,
        "first_seen_at": _moment(sighting.first_ms),
        "last_seen_at": _moment(sighting.last_ms),
        "streams": sighting.openings,
        "came_back_at": _moment(sighting.came_back_ms),
    }


def _moment(milliseconds: int) -> str | None:
    return rfc3339(datetime.fromtimestamp(milliseconds / 1000, UTC)) if milliseconds else None

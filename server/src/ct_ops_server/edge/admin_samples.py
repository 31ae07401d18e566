"""The part of the admin API that is about samples: which an agent has, and their values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime

from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.resolutions import Resolution
from ct_ops_server.fleet.samples import Curves, NoSuchSeriesError, Point, SampleDesk, Series

_Time = Annotated[AwareDatetime, Query()]


def add_samples(app: FastAPI, agents: AgentDesk, desk: SampleDesk) -> None:
    """Add the routes and the errors of samples."""

    @app.get("/v1/agents/{selector}/series")
    async def list_series(selector: str) -> list[dict[str, Any]]:
        agent = await agents.find(selector)
        return [series_view(each) for each in await desk.series(agent.id)]

    @app.get("/v1/agents/{selector}/samples")
    async def list_samples(
        selector: str,
        name: Annotated[str, Query(max_length=2_000)],
        since: _Time,
        until: _Time,
        resolution: Resolution | None = None,
    ) -> dict[str, Any]:
        agent = await agents.find(selector)
        found = await desk.curves(
            agent.id, agent.hostname, name, since=since, until=until, resolution=resolution
        )
        return {"agent_id": agent.id, "hostname": agent.hostname, **curves_view(found)}

    @app.exception_handler(NoSuchSeriesError)
    async def no_such_series(_: Request, error: NoSuchSeriesError) -> JSONResponse:
        return JSONResponse({"error": {"code": "not_found", "message": str(error)}}, status_code=404)


def series_view(series: Series) -> dict[str, Any]:
    """Return a series with its newest sample as an object."""
    latest = series.latest
    return {
        "series": series.text,
        "name": series.name,
        "unit": series.unit,
        "latest_at": None if latest is None else _to_the_millisecond(latest.at),
        "latest_value": None if latest is None else latest.value,
    }


def curves_view(found: Curves) -> dict[str, Any]:
    """Return series over some time as an object."""
    return {
        "resolution": found.resolution.value,
        "is_cut": found.is_cut,
        "series": [
            {
                "series": curve.text,
                "unit": curve.unit,
                "points": [point_view(point) for point in curve.points],
            }
            for curve in found.curves
        ],
    }


def point_view(point: Point) -> dict[str, Any]:
    """Return a sample as an object; of a coarser resolution with what it stands for, its value being the mean."""
    view: dict[str, Any] = {"at": _to_the_millisecond(point.at), "value": point.value}
    if point.bucket is not None:
        bucket = point.bucket
        view |= {"samples": bucket.samples, "lowest": bucket.lowest, "highest": bucket.highest}
    return view


def _to_the_millisecond(moment: datetime) -> str:
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{text.removesuffix('.000')}Z"

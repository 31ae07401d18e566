"""The admin API's part of the audit log: reading it, taking it away, and telling it what a command did by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from ct_ops_server.audit.decisions import Action, Decision
from ct_ops_server.audit.desk import NOTED, AuditDesk
from ct_ops_server.audit.entries import Entry
from ct_ops_server.audit.ports import Wanted
from ct_ops_server.edge.actors import Actor

_Details = dict[str, Annotated[str, Field(max_length=500)] | int]
_Milliseconds = Annotated[int | None, Query(ge=0, lt=2**62)]


class NoteRequest(BaseModel):
    """Body of ``POST /v1/audit``."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor
    action: Action
    subject: Annotated[str, Field(max_length=500)] = ""
    details: Annotated[_Details, Field(max_length=20)] = {}

    def decision(self) -> Decision:
        """Return what is to be recorded.

        Raises:
            ValueError: it is not a command's to tell.
        """
        if self.action not in NOTED:
            raise ValueError(f"{self.action} is recorded where it is decided")
        return Decision(self.action, self.actor, subject=self.subject, details=dict(self.details))


def add_audit(app: FastAPI, desk: AuditDesk) -> None:
    """Add the routes."""

    @app.get("/v1/audit")
    async def list_entries(
        *,
        agent: str | None = None,
        token: str | None = None,
        action: str | None = None,
        actor: str | None = None,
        since_ms: _Milliseconds = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> list[dict[str, Any]]:
        wanted = Wanted(agent, token, action, actor, since_ms)
        return [entry_view(entry) for entry in await desk.list(wanted, limit=limit)]

    @app.post("/v1/audit", status_code=201)
    async def note(body: NoteRequest) -> dict[str, Any]:
        await desk.record(body.decision())
        return {}

    @app.get("/v1/audit/export")
    async def export(
        after: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
        since_ms: _Milliseconds = None,
        until_ms: _Milliseconds = None,
    ) -> dict[str, Any]:
        page = await desk.export(after=after, since_ms=since_ms, until_ms=until_ms)
        return {"lines": page.lines.decode(), "last": page.last}

    @app.get("/v1/audit/key")
    async def key() -> dict[str, Any]:
        return {"public_pem": desk.public_pem.decode()}


def entry_view(entry: Entry) -> dict[str, Any]:
    """Return an entry as an object."""
    return {
        "seq": entry.seq,
        "at": _moment(entry.at_ms).isoformat(timespec="milliseconds"),
        "action": entry.action,
        "actor": entry.actor,
        "agent": entry.agent,
        "token": entry.token,
        "subject": entry.subject,
        "details": dict(entry.details),
        "hash": entry.hash.hex(),
    }


def _moment(at_ms: int) -> datetime:
    """Return when an entry was recorded; the end of time for a number that somebody made up."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)

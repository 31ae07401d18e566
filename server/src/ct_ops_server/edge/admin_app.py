"""The admin API: what ``ct-ops-server`` asks a running server to do, over ``admin.sock``.

The command line uses this very app also when no server runs, then inside its own process: so there is one
way to do a thing, with one set of checks and errors. Whoever may open the socket is an operator; the
actor's name comes with the request and goes into the history, behind what the kernel says (``actors``).

Errors are JSON ``{"error": {"code": …, "message": …}}``: 404 not found, 409 does not fit the state or
is ambiguous, 422 malformed, 503 the database does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from ct_ops_server.config.duration import LONGEST
from ct_ops_server.edge.actors import Actor
from ct_ops_server.edge.admin_errors import add_errors
from ct_ops_server.edge.admin_groups import Group, GroupedApp
from ct_ops_server.edge.admin_health import health_view, reasons_view
from ct_ops_server.edge.admin_parts import AdminParts
from ct_ops_server.edge.admin_views import (
    agent_view,
    change_view,
    deleted_view,
    refusal_view,
    sheet_view,
    token_view,
)
from ct_ops_server.enrolment.model import Refusal, TokenTerms
from ct_ops_server.fleet.model import Agent, AgentStatus, Tag


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor: Actor


class TokenRequest(_Body):
    """Body of ``POST /v1/tokens``: its form; whether the terms make sense is for ``token_terms``."""

    label: str
    auto_approve: bool = False
    max_uses: int | None = None
    expires_in_s: Annotated[float, Field(gt=0, le=LONGEST.total_seconds())] | None = None
    tags: dict[str, str] = {}
    networks: list[str] = []
    hostname_pattern: str = ""

    def terms(self, now: datetime) -> TokenTerms:
        """Return what was said about the token, not checked for sense yet."""
        return TokenTerms(
            label=self.label,
            auto_approve=self.auto_approve,
            max_uses=self.max_uses,
            expires_at=None if self.expires_in_s is None else now + timedelta(seconds=self.expires_in_s),
            tags=tuple(Tag(key, value) for key, value in self.tags.items()),
            networks=tuple(self.networks),
            hostname_pattern=self.hostname_pattern,
        )


class ImportRequest(TokenRequest):
    """Body of ``POST /v1/imported-tokens``."""

    sha256: str
    uses: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class DecisionRequest(_Body):
    """Body of ``POST /v1/agents/{selector}/{decision}``."""

    reason: Annotated[str, Field(max_length=500)] = ""


def build_admin_app(parts: AdminParts) -> GroupedApp:
    """Return the app."""

    def make(group: Group) -> FastAPI:
        app = FastAPI(title="CT-Ops admin", openapi_url=None, docs_url=None, redoc_url=None)
        add_errors(app)
        if (add := GROUPS.get(group)) is not None:
            add(app, parts)
        return app

    return GroupedApp(make)


def _add_tokens(app: FastAPI, parts: AdminParts) -> None:
    @app.post("/v1/tokens", status_code=201)
    async def create_token(body: TokenRequest) -> dict[str, Any]:
        now = parts.now()
        created = await parts.tokens.create(body.terms(now), actor=body.actor)
        view = token_view(created.record, now)
        offer = await asyncio.to_thread(parts.install_offer, created.token)
        return {
            **view,
            "token": created.token,
            "run_line": created.run_line,
            "install_line": offer.line,
            "install_problem": offer.problem,
            "warnings": list(parts.token_warnings()),
        }

    @app.post("/v1/imported-tokens", status_code=201)
    async def import_token(body: ImportRequest) -> dict[str, Any]:
        now = parts.now()
        terms = body.terms(now)
        record = await parts.tokens.import_digest(body.sha256, terms, actor=body.actor, uses=body.uses)
        return token_view(record, now)

    @app.get("/v1/tokens")
    async def list_tokens() -> list[dict[str, Any]]:
        return [token_view(token, parts.now()) for token in await parts.tokens.list()]

    @app.get("/v1/tokens/{selector}")
    async def show_token(selector: str) -> dict[str, Any]:
        return sheet_view(await parts.tokens.show(selector), parts.now())

    @app.post("/v1/tokens/{selector}/revoke")
    async def revoke_token(selector: str, body: DecisionRequest) -> dict[str, Any]:
        revoked = await parts.tokens.revoke(selector, actor=body.actor, reason=body.reason)
        return {**token_view(revoked.record, parts.now()), "was_revoked_before": revoked.already}

    @app.get("/v1/refusals")
    async def list_refusals(
        token: str | None = None,
        reason: Refusal | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> list[dict[str, Any]]:
        found = await parts.tokens.refusals(selector=token, reason=reason, limit=limit)
        return [refusal_view(record) for record in found]


def _add_agents(app: FastAPI, parts: AdminParts) -> None:
    decisions = {
        "approve": parts.agents.approve,
        "reject": parts.agents.reject,
        "revoke": parts.agents.revoke,
    }

    @app.get("/v1/deleted-agents")
    async def list_deleted() -> list[dict[str, Any]]:
        return [deleted_view(agent) for agent in await parts.agents.deleted()]

    @app.get("/v1/agents")
    async def list_agents(
        status: AgentStatus | None = None, *, degraded: bool = False
    ) -> list[dict[str, Any]]:
        why = await parts.health.degraded()
        return [
            {**agent_view(agent), "degraded": reasons_view(why.get(agent.id, ()))}
            for agent in await parts.agents.list(status)
            if not degraded or agent.id in why
        ]

    @app.get("/v1/agents/{selector}")
    async def show_agent(selector: str) -> dict[str, Any]:
        agent = await parts.agents.find(selector)
        sheet = await parts.health.sheet(agent.id, online=agent.online)
        history = await parts.agents.history(agent.id)
        shown = {} if sheet is None else health_view(sheet)
        return {**agent_view(agent), **shown, "history": [change_view(change) for change in history]}

    @app.post("/v1/restored-agents/approve")
    async def approve_restored(body: DecisionRequest) -> list[dict[str, Any]]:
        approved = await parts.agents.approve_restored(actor=body.actor, reason=body.reason)
        return [agent_view(agent) for agent in approved]

    for name, decide in decisions.items():
        app.post(f"/v1/agents/{{selector}}/{name}", name=name)(_decision(decide))
    app.delete("/v1/agents/{selector}", name="delete")(_decision(parts.agents.delete))


def _decision(decide: Callable[..., Awaitable[Agent]]) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def endpoint(selector: str, body: DecisionRequest) -> dict[str, Any]:
        return agent_view(await decide(selector, actor=body.actor, reason=body.reason))

    return endpoint


def _add_audit(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_audit import add_audit  # noqa: PLC0415  when it is asked for

    add_audit(app, parts.audit)


def _add_authority(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_authority import add_authority  # noqa: PLC0415  when it is asked for

    add_authority(app, parts.authority)


def _add_bundles(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_bundles import add_bundles  # noqa: PLC0415  when it is asked for

    add_bundles(app, parts.bundles, parts.audit, parts.now)


def _add_carried(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_carried import add_carried  # noqa: PLC0415  when it is asked for

    add_carried(app, parts.carried, parts.agents, parts.token_warnings)


def _add_checks(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_checks import add_checks  # noqa: PLC0415  when it is asked for

    add_checks(app, parts.checks)


def _add_clones(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_clones import add_clones  # noqa: PLC0415  when it is asked for

    add_clones(app, parts.clones)


def _add_hurry(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_hurry import add_hurry  # noqa: PLC0415  when it is asked for

    add_hurry(app, parts.hurries, parts.hint)


def _add_samples(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_samples import add_samples  # noqa: PLC0415  when it is asked for

    add_samples(app, parts.agents, parts.samples)


def _add_server_ca(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_server_ca import add_server_ca  # noqa: PLC0415  when it is asked for

    add_server_ca(app, parts.server_ca)


def _add_work(app: FastAPI, parts: AdminParts) -> None:
    from ct_ops_server.edge.admin_work import add_work  # noqa: PLC0415  when it is asked for

    add_work(app, parts.work)


GROUPS: Mapping[Group, Callable[[FastAPI, AdminParts], None]] = {
    Group.AGENTS: _add_agents,
    Group.AUDIT: _add_audit,
    Group.AUTHORITY: _add_authority,
    Group.BUNDLES: _add_bundles,
    Group.CARRIED: _add_carried,
    Group.CHECKS: _add_checks,
    Group.CLONES: _add_clones,
    Group.HURRY: _add_hurry,
    Group.SAMPLES: _add_samples,
    Group.SERVER_CA: _add_server_ca,
    Group.WORK: _add_work,
    Group.TOKENS: _add_tokens,
}
"""What adds the routes of a group, and imports what only they need."""

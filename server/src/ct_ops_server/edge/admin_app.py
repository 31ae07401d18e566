"""The admin API: what ``ct-ops-server`` asks a running server to do, over ``admin.sock``.

The command line uses this very app also when no server runs, then inside its own process: so there is one
way to do a thing, with one set of checks and errors. Whoever may open the socket is an operator; the
actor's name comes with the request and goes into the history.

Errors are JSON ``{"error": {"code": …, "message": …}}``: 404 not found, 409 does not fit the state or
is ambiguous, 422 malformed, 503 the database does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ct_ops_server.audit.desk import AuditDesk
from ct_ops_server.authority.rotation import AuthorityDesk
from ct_ops_server.config.duration import LONGEST
from ct_ops_server.edge.admin_audit import add_audit
from ct_ops_server.edge.admin_authority import add_authority
from ct_ops_server.edge.admin_bundles import add_bundles
from ct_ops_server.edge.admin_carried import add_carried
from ct_ops_server.edge.admin_checks import add_checks
from ct_ops_server.edge.admin_clones import add_clones
from ct_ops_server.edge.admin_health import health_view, reasons_view
from ct_ops_server.edge.admin_hurry import add_hurry
from ct_ops_server.edge.admin_samples import add_samples
from ct_ops_server.edge.admin_server_ca import add_server_ca
from ct_ops_server.edge.admin_views import (
    agent_view,
    change_view,
    deleted_view,
    refusal_view,
    sheet_view,
    token_view,
)
from ct_ops_server.edge.admin_work import add_work
from ct_ops_server.enrolment.bundles import BundleDesk
from ct_ops_server.enrolment.carried import CarriedDesk
from ct_ops_server.enrolment.model import Refusal, TokenTerms
from ct_ops_server.enrolment.tokens import DigestError, TokenDesk, TokenError, TokenNotFoundError
from ct_ops_server.fleet.agents import AgentDesk, AgentError, AgentNotFoundError
from ct_ops_server.fleet.checks import CheckDesk
from ct_ops_server.fleet.clones import CloneDesk
from ct_ops_server.fleet.health import HealthDesk
from ct_ops_server.fleet.hurry import HurryStore
from ct_ops_server.fleet.model import Agent, AgentStatus, Tag
from ct_ops_server.fleet.ports import StoreError, StoreUnavailableError
from ct_ops_server.fleet.samples import SampleDesk
from ct_ops_server.fleet.server_ca_desk import ServerCaDesk
from ct_ops_server.fleet.work_desk import WorkDesk
from ct_ops_server.releases.install_script import InstallOffer

_Actor = Annotated[str, Field(min_length=1, max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor: _Actor


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


@dataclass(frozen=True)
class AdminParts:
    """What the API works on."""

    tokens: TokenDesk
    audit: AuditDesk
    agents: AgentDesk
    clones: CloneDesk
    samples: SampleDesk
    health: HealthDesk
    checks: CheckDesk
    work: WorkDesk
    bundles: BundleDesk
    carried: CarriedDesk
    authority: AuthorityDesk
    server_ca: ServerCaDesk
    hurries: HurryStore
    hint: Callable[[str], None]
    """Of the push bus of this process."""
    install_offer: Callable[[str], InstallOffer]
    """What to run on a host that shall enrol with a token; blocks, reading the shelf."""
    now: Callable[[], datetime]
    token_warnings: Callable[[], tuple[str, ...]] = tuple


def build_admin_app(parts: AdminParts) -> FastAPI:
    """Return the app."""
    app = FastAPI(title="CT-Ops admin", openapi_url=None, docs_url=None, redoc_url=None)
    _add_errors(app)
    _add_tokens(app, parts)
    _add_agents(app, parts)
    add_clones(app, parts.clones)
    add_audit(app, parts.audit)
    add_samples(app, parts.agents, parts.samples)
    add_checks(app, parts.checks)
    add_work(app, parts.work)
    add_bundles(app, parts.bundles, parts.audit, parts.now)
    add_carried(app, parts.carried, parts.agents, parts.token_warnings)
    add_authority(app, parts.authority)
    add_server_ca(app, parts.server_ca)
    add_hurry(app, parts.hurries, parts.hint)
    return app


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


def _add_errors(app: FastAPI) -> None:
    def answer(status: int, code: str, message: str) -> JSONResponse:
        return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)

    @app.exception_handler(AgentError)
    async def agent_error(_: Request, error: AgentError) -> JSONResponse:
        if isinstance(error, AgentNotFoundError):
            return answer(404, "not_found", str(error))
        return answer(409, "conflict", str(error))

    @app.exception_handler(TokenError)
    async def token_error(_: Request, error: TokenError) -> JSONResponse:
        if isinstance(error, TokenNotFoundError):
            return answer(404, "not_found", str(error))
        return answer(422 if isinstance(error, DigestError) else 409, "conflict", str(error))

    @app.exception_handler(StoreError)
    async def store_error(_: Request, error: StoreError) -> JSONResponse:
        if isinstance(error, StoreUnavailableError):
            return answer(503, "store_unavailable", f"the database does not answer: {error}")
        return answer(500, "write_refused", f"the database refused this: {error}")

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors()
        )
        return answer(422, "malformed", problems)

    @app.exception_handler(ValueError)
    async def impossible(_: Request, error: ValueError) -> JSONResponse:
        return answer(422, "malformed", str(error))

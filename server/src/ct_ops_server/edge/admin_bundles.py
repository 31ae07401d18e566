"""The part of the admin API that builds install bundles: ``POST /v1/bundles`` answers with the bundle itself.

What was made with it is in the headers: ``X-CT-Ops-Token-Id`` (a token of its own), ``X-CT-Ops-Signed``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ct_ops_server.audit.decisions import Action, Decision, Detail
from ct_ops_server.audit.desk import AuditDesk
from ct_ops_server.config.duration import LONGEST
from ct_ops_server.edge.actors import Actor
from ct_ops_server.enrolment.bundles import (
    Bundle,
    BundleDesk,
    BundleOrder,
    BundleRefusedError,
    NoArtefactError,
)
from ct_ops_server.enrolment.model import TokenTerms
from ct_ops_server.releases.packing import Packing

TOKEN_ID_HEADER = "X-CT-Ops-Token-Id"
SIGNED_HEADER = "X-CT-Ops-Signed"
_WEEK_S = timedelta(days=7).total_seconds()


class NewToken(BaseModel):
    """The token that is made for a bundle: for one host and a week, unless said otherwise."""

    model_config = ConfigDict(extra="forbid")

    label: str = ""
    auto_approve: bool = False
    max_uses: int = 1
    expires_in_s: Annotated[float, Field(gt=0, le=LONGEST.total_seconds())] = _WEEK_S

    def terms(self, platform: str, now: datetime) -> TokenTerms:
        """Return its terms."""
        return TokenTerms(
            label=self.label or f"install bundle {platform}",
            auto_approve=self.auto_approve,
            max_uses=self.max_uses,
            expires_at=now + timedelta(seconds=self.expires_in_s),
        )


class BundleRequest(BaseModel):
    """Body of ``POST /v1/bundles``."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor
    os: Literal["linux"]
    arch: Literal["amd64", "arm64"]
    format: Packing = Packing.TAR_GZ
    address: str | None = None
    tags: Annotated[dict[str, str], Field(max_length=64)] = {}
    token: Annotated[str | None, Field(min_length=1, max_length=1024, repr=False)] = None
    create_token: NewToken | None = None
    sign: bool = True

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token is not None and self.create_token is not None:
            raise ValueError("Provide either token or create_token, not both")
        return self

    def order(self, now: datetime) -> BundleOrder:
        """Return what is asked for."""
        new = self.create_token
        return BundleOrder(
            system=self.os,
            architecture=self.arch,
            packing=self.format,
            tags=tuple(self.tags.items()),
            address=self.address,
            token=self.token,
            new_token=None if new is None else new.terms(f"{self.os}/{self.arch}", now),
            sign=self.sign,
        )


def add_bundles(app: FastAPI, desk: BundleDesk, audit: AuditDesk, now: Callable[[], datetime]) -> None:
    """Add the route and its errors."""

    @app.post("/v1/bundles")
    async def build_bundle(body: BundleRequest) -> Response:
        bundle = await desk.build(body.order(now()), actor=body.actor)
        await audit.record(_decision(bundle, body.actor))
        return _answer(bundle)

    @app.exception_handler(BundleRefusedError)
    async def refused(_: Request, error: BundleRefusedError) -> JSONResponse:
        missing = isinstance(error, NoArtefactError)
        code, status = ("no_artefact", 503) if missing else ("conflict", 409)
        return JSONResponse(_error(code, error), status_code=status)


def _decision(bundle: Bundle, actor: str) -> Decision:
    token = "" if bundle.created is None else bundle.created.id
    details: dict[str, Detail] = {"version": bundle.version, "signed": bundle.is_signed}
    return Decision(Action.BUNDLE_BUILT, actor, token=token, subject=bundle.file_name, details=details)


def _error(code: str, error: Exception) -> dict[str, Any]:
    return {"error": {"code": code, "message": str(error)}}


def _answer(bundle: Bundle) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{bundle.file_name}"',
        "Cache-Control": "no-store",
        SIGNED_HEADER: str(bundle.is_signed).lower(),
    }
    if bundle.created is not None:
        headers[TOKEN_ID_HEADER] = bundle.created.id
    kind = "application/zip" if bundle.file_name.endswith(".zip") else "application/gzip"
    return Response(bundle.content, media_type=kind, headers=headers)

"""The part of the admin API that signs carried requests: ``POST /v1/carried-requests``.

A request becomes the message that an agent would have sent, and goes through the same checks of form as that one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_proto.carried_enrolment import CarriedRequest, parse_request, reply_text
from ct_ops_proto.carried_form import LARGEST_BYTES
from ct_ops_server.authority.key_signature import signed_by
from ct_ops_server.edge.actors import Actor
from ct_ops_server.edge.convert import application_of
from ct_ops_server.edge.refusals import Refused
from ct_ops_server.enrolment.carried import CarriedDesk, Invitation, Signed, Submission, Waiting
from ct_ops_server.enrolment.model import EnrolmentRefusedError
from ct_ops_server.enrolment.remedies import remedy
from ct_ops_server.fleet.agents import AgentDesk
from ct_ops_server.fleet.model import Agent, Tag


class SignRequest(BaseModel):
    """Body of ``POST /v1/carried-requests``."""

    model_config = ConfigDict(extra="forbid")

    actor: Actor
    request: Annotated[str, Field(max_length=LARGEST_BYTES + 1)]
    """The file's text."""
    token: Annotated[str | None, Field(min_length=1, max_length=255)] = None
    token_sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None
    """Of its secret part: the token itself need not be sent."""
    approve: bool = False
    tags: Annotated[dict[str, str], Field(max_length=64)] = {}

    @model_validator(mode="after")
    def _token_or_terms(self) -> Self:
        named = (self.token is not None) + (self.token_sha256 is not None)
        if named + bool(self.approve or self.tags) > 1:
            raise ValueError("a token that is named has terms of its own: name one, or say approve and tags")
        return self

    def invitation(self) -> Invitation:
        """Return by what the host is admitted if it is a stranger."""
        tags = tuple(Tag(key, value) for key, value in self.tags.items())
        digest = None if self.token_sha256 is None else bytes.fromhex(self.token_sha256)
        return Invitation(selector=self.token, digest=digest, approve=self.approve, tags=tags)


def add_carried(
    app: FastAPI, desk: CarriedDesk, agents: AgentDesk, warnings: Callable[[], tuple[str, ...]]
) -> None:
    """Add the route and its errors."""

    @app.post("/v1/carried-requests")
    async def sign(body: SignRequest) -> dict[str, Any]:
        submission = submission_of(parse_request(body.request.encode(errors="replace")))
        outcome = await desk.sign(submission, body.invitation(), actor=body.actor)
        if isinstance(outcome, Waiting):
            return _waiting_view(submission, await agents.find(outcome.agent_id))
        return _signed_view(submission, outcome) | {"warnings": list(warnings())}

    @app.exception_handler(EnrolmentRefusedError)
    async def refused(_: Request, error: EnrolmentRefusedError) -> JSONResponse:
        message = f"{error}. What to do: {remedy(error.reason)}"
        return JSONResponse({"error": {"code": error.reason.value, "message": message}}, status_code=409)

    @app.exception_handler(Refused)
    async def malformed(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": {"code": error.reason, "message": error.sentence}}, status_code=422)


def submission_of(request: CarriedRequest) -> Submission:
    """Return a carried request as an application, with the verdict on its signature.

    Raises:
        KeyRefusedError, EnrolmentRefusedError, Refused: as a Register of this form would be.
    """
    signed = request.signed_text()
    application = application_of(
        _as_register(request),
        address="",
        leaf_agent_id=lambda _key: None,
        is_proven=lambda key: signed_by(key, request.signature, signed),
    )
    return Submission(
        request_id=request.request_id,
        digest=hashlib.sha256(signed).digest(),
        made_at=datetime.fromtimestamp(request.made_at_unix, UTC),
        application=application,
    )


def _as_register(request: CarriedRequest) -> wire.RegisterRequest:
    return wire.RegisterRequest(
        public_key=request.public_key_pem,
        csr_der=request.csr_der,
        platform_info=wire.PlatformInfo(
            os=request.os,
            os_version=request.os_version,
            arch=request.arch,
            ip_addresses=request.ip_addresses,
        ),
        agent_info=wire.AgentInfo(version=request.agent_version, hostname=request.hostname),
        tags=[wire.Tag(key=tag.key, value=tag.value) for tag in request.tags],
        machine_id=request.machine_id,
    )


def _about(submission: Submission) -> dict[str, Any]:
    return {
        "request_id": submission.request_id,
        "hostname": submission.application.hostname,
        "key_id": submission.application.key_id,
        "made_at": submission.made_at.isoformat(),
    }


def _waiting_view(submission: Submission, agent: Agent) -> dict[str, Any]:
    return _about(submission) | {
        "status": agent.status.value,
        "agent_id": agent.id,
        "evidence": agent.evidence,
        "reply": None,
    }


def _signed_view(submission: Submission, signed: Signed) -> dict[str, Any]:
    return _about(submission) | {
        "status": "active",
        "agent_id": signed.reply.agent_id,
        "answered_before": signed.answered_before,
        "ca_sha256": signed.meeting.ca_sha256.hex(),
        "addresses": list(signed.meeting.addresses),
        "reply": reply_text(signed.reply),
    }

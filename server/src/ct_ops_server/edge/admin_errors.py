"""How the admin API answers to errors that are not of one group of routes only."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.enrolment.tokens import DigestError, TokenError, TokenNotFoundError
from ct_ops_server.fleet.agents import AgentError, AgentNotFoundError
from ct_ops_server.fleet.ports import StoreError, StoreUnavailableError


def add_errors(app: FastAPI) -> None:
    """Answer to the errors that several groups of routes have in common."""

    def answer(status: int, code: str, message: str) -> JSONResponse:
        return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)

    @app.exception_handler(AgentError)
    @app.exception_handler(AuthorityError)
    async def agent_error(_: Request, error: Exception) -> JSONResponse:
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
            return answer(503, "store_unavailable", str(error))
        return answer(500, "write_refused", str(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors()
        )
        return answer(422, "malformed", problems)

    @app.exception_handler(ValueError)
    async def impossible(_: Request, error: ValueError) -> JSONResponse:
        return answer(422, "malformed", str(error))

"""``POST /api/admin/hosts/bulk-delete``: how a load test takes its hosts back, on 8080 only.

Off (503) unless ``CT_OPS_LOADTEST_ADMIN_KEY`` is set, before anything else is looked at. The key comes as a Bearer credential, or
in ``X-Loadtest-Admin-Key`` as existing tools send it, and is compared in constant time. What it opens is no more than
``fleet.load_test_hosts`` allows; how often an address may try is limited, so a short key cannot be guessed at leisure.

    {"hostnamePrefix": "loadtest-…"}  →  200 {"deleted": n, "failed": ["<hostname>: <error>", …]}

Errors are ``{"error": "…"}``: 400 the body, 401 the key, 413, 429 with Retry-After, 503 off or the database does not answer.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ct_ops_server.edge.downloads import TOO_MANY, RequestError, errors_as_json
from ct_ops_server.edge.rate_limits import RateLimit
from ct_ops_server.fleet.load_test_hosts import Deleted, PrefixError
from ct_ops_server.fleet.ports import StoreError

PATH = "/api/admin/hosts/bulk-delete"
OLD_HEADER = "x-loadtest-admin-key"
REQUESTS_A_MINUTE = 30
_LARGEST_BODY = 4096
_OFF = "Load-test admin endpoint is disabled (CT_OPS_LOADTEST_ADMIN_KEY not set)"


class BulkDelete:
    """The route of one app."""

    def __init__(
        self,
        delete: Callable[[str], Awaitable[Deleted]],
        *,
        key: str | None,
        address_of: Callable[[Request], str],
        now_s: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            delete: deletes the hosts with a prefix.
            key: who knows it may; None: nobody.
            address_of: whom a request is counted for.
            now_s: monotonic seconds.
        """
        self._delete = delete
        self._key = key
        self._address_of = address_of
        self._limit = RateLimit(REQUESTS_A_MINUTE, now_s=now_s)

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(PATH, errors_as_json(self.bulk_delete), methods=["POST"])]

    async def bulk_delete(self, request: Request) -> Response:
        """Delete the hosts of a load test."""
        self._admit(request)
        prefix = _prefix(await _body(request))
        try:
            done = await self._delete(prefix)
        except PrefixError as error:
            raise RequestError(400, str(error)) from error
        except StoreError as error:
            raise RequestError(503, f"The database does not answer; try again: {error}") from error
        return JSONResponse({"deleted": done.deleted, "failed": list(done.failed)})

    def _admit(self, request: Request) -> None:
        if self._key is None:
            raise RequestError(503, _OFF)
        if wait_s := self._limit.wait_s(self._address_of(request)):
            raise RequestError(429, TOO_MANY, {"Retry-After": str(math.ceil(wait_s))})
        if not any([_same(given, self._key) for given in _keys(request)]):  # noqa: C419  none is skipped
            raise RequestError(401, "Unauthorized", {"WWW-Authenticate": "Bearer"})


def _keys(request: Request) -> tuple[str, str]:
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    bearer = credential.strip() if scheme.lower() == "bearer" else ""
    return bearer, request.headers.get(OLD_HEADER, "")


def _same(given: str, key: str) -> bool:
    return hmac.compare_digest(given.encode(), key.encode())


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise RequestError(413, f"The body has more than {_LARGEST_BODY} bytes")
    return body


def _prefix(body: bytes) -> str:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, "Invalid JSON body") from error
    prefix = decoded.get("hostnamePrefix") if isinstance(decoded, dict) else None
    if not isinstance(prefix, str):
        raise RequestError(400, "hostnamePrefix must be a string")
    return prefix

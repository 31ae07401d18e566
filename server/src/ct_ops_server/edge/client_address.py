"""Whom an HTTP request is counted for.

* on the agent port: the address that the front door saw, by the name of its upstream socket;
* on the local port: the socket's other end, or, where the operator says that a proxy overwrites the headers
  (``CT_OPS_TRUST_PROXY_HEADERS``), the client that the proxy itself saw: the *last* entry of
  X-Forwarded-For. The first one is whatever the client wrote there.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ct_ops_server.edge.callers import Callers


def protocol_named_by(callers: Callers) -> type[HttpToolsProtocol]:
    """Return a protocol whose clients are the callers of the front door."""

    class CallerNamed(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            name = transport.get_extra_info("peername")
            caller = callers.find(_text(name).removeprefix("\0"))
            self.client = (caller.address, 0) if caller else None

    return CallerNamed


def client_of(request: Request) -> str:
    """Return the address of the connection's other end; empty when nobody knows it."""
    return request.client.host if request.client else ""


def client_behind_proxy(request: Request) -> str:
    """Return the client that a trusted proxy names, else the connection's other end."""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2]
    for claimed in (forwarded, request.headers.get("x-real-ip", "")):
        try:
            return str(ip_address(claimed.strip()))
        except ValueError:
            continue
    return client_of(request)


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")

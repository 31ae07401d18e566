"""The real server in this process, on loopback and ports that the system chooses."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from ct_ops_server.app import running_server
from ct_ops_server.config.load import load_settings
from ct_ops_server.config.schema import Settings
from ct_ops_server.core import utc_now
from ct_ops_server.edge.limits import Limits
from ct_ops_server.fleet.presence import PresencePolicy
from wire_client import Host, Wire

LIMITS = Limits(held_refusal_s=0.0, held_refusal_max_s=0.0, handshake_timeout_s=30.0)
"""Refusals are not held: a test is a patient client, but not that patient.

A handshake has long: client and server share one event loop here, and one slow moment is no attack.
"""

PRESENCE = PresencePolicy(
    renew_every=timedelta(seconds=0.1), lease_timeout=timedelta(seconds=5), grace=timedelta(seconds=0.3)
)
BOTH_PRESENT = replace(PRESENCE, lease_timeout=timedelta(seconds=15))
"""Of two servers that both live: one that a busy machine held up for a second is waited for, not given up."""


def settings_for(data_dir: Path, database_url: str = "") -> Settings:
    """Return settings of a server that listens on loopback only."""
    environ = {
        "INGEST_DATA_DIR": str(data_dir),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "DATABASE_URL": database_url,
        "AGENT_DIST_DIR": str(data_dir / "agent-dist"),
    }
    return load_settings(environ, env_file=data_dir / "no-such-file")


def operator(said: str) -> str:
    """Return what is recorded of somebody who says to be this over the socket: this process, in truth."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    return f"{name} [uid {os.geteuid()}], as {said}"


@dataclass(frozen=True)
class RealServer:
    """A running server, as its operators and its agents see it."""

    settings: Settings
    wire: Wire
    http_port: int

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the admin API."""
        # verify=False: no TLS is spoken here, and reading the world's roots takes longer than the request.
        transport = httpx.AsyncHTTPTransport(uds=str(self.settings.data_dir / "admin.sock"), verify=False)
        async with httpx.AsyncClient(transport=transport, timeout=20) as client:
            response = await client.request(method, f"http://ct-ops{path}", json=body)
        return response.json()

    async def get(self, path: str) -> httpx.Response:
        """GET from the local app."""
        async with httpx.AsyncClient(verify=False) as client:
            return await client.get(f"http://127.0.0.1:{self.http_port}{path}")

    async def token(self, **terms: Any) -> str:
        """Return a new enrolment token, auto-approving unless said otherwise."""
        body = {"actor": "test", "label": "test", "auto_approve": True} | terms
        return str((await self.ask("POST", "/v1/tokens", body))["token"])

    async def agent(self, host: Host) -> dict[str, Any]:
        """Return what operators see of a host."""
        shown: dict[str, Any] = await self.ask("GET", f"/v1/agents/{host.agent_id}")
        return shown

    async def decide(self, host: Host, decision: str) -> dict[str, Any]:
        """Approve, reject or revoke."""
        path = f"/v1/agents/{host.agent_id}/{decision}"
        decided: dict[str, Any] = await self.ask("POST", path, {"actor": "test", "reason": "a test"})
        return decided

    async def enrolled(self, hostname: str) -> Host:
        """Return a host that is enrolled and active."""
        host = Host(hostname)
        await self.wire.register(host, await self.token())
        return host


@asynccontextmanager
async def real_server(
    settings: Settings,
    limits: Limits = LIMITS,
    now: Callable[[], datetime] = utc_now,
    *,
    presence: PresencePolicy = PRESENCE,
) -> AsyncIterator[RealServer]:
    """Run a server for as long as the block lasts, by a clock that the test may hold."""
    async with running_server(settings, limits=limits, presence=presence, now=now) as running:
        ca_pem = (settings.tls_ca or settings.data_dir / "server-ca.crt").read_text()
        yield RealServer(settings, Wire(running.grpc_port, ca_pem), running.http_port)


@asynccontextmanager
async def two_servers(folder: Path, database_url: str) -> AsyncIterator[tuple[RealServer, RealServer]]:
    """Run two servers of one installation on one database, with a push bus and a live table each."""
    async with real_server(settings_for(folder / "one", database_url), presence=BOTH_PRESENT) as first:
        copied = shutil.ignore_patterns("*.sock", "*.lock", "*.db*")
        shutil.copytree(folder / "one", folder / "two", ignore=copied)
        async with real_server(settings_for(folder / "two", database_url), presence=BOTH_PRESENT) as second:
            yield first, second


def tighter(**changes: Any) -> Limits:
    """Return the tests' limits with some of them changed."""
    return replace(LIMITS, **changes)

"""``POST /api/admin/hosts/bulk-delete`` of a real server: who may, what it takes, and what it deletes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ct_ops_server.edge.bulk_delete import PATH, REQUESTS_A_MINUTE
from real_server import RealServer, real_server, settings_for

KEY = "k3y-of-the-load-test"
BEARER = {"Authorization": f"Bearer {KEY}"}
OLD = {"X-Loadtest-Admin-Key": KEY}


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RealServer]:
    async with keyed_server(tmp_path, database_url) as running:
        yield running


def keyed_server(folder: Path, url: str = "", key: str | None = KEY) -> Any:
    return real_server(replace(settings_for(folder / "server", url), loadtest_admin_key=key))


async def post(server: RealServer, content: str | bytes, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30, verify=False) as client:
        return await client.post(
            f"http://127.0.0.1:{server.http_port}{PATH}", content=content, headers=headers
        )


async def hostnames(server: RealServer) -> list[str]:
    return [agent["hostname"] for agent in await server.ask("GET", "/v1/agents")]


async def test_hosts_of_a_load_test_are_deleted_and_no_others(server: RealServer) -> None:
    """On both databases; the second call finds nothing left to delete."""
    names = ("loadtest-lt-1-0000", "loadtest-lt-1-0001", "loadtest-lt-2-0000", "web")
    await asyncio.gather(*map(server.enrolled, names))
    body = '{"hostnamePrefix": "loadtest-lt-1-"}'
    answers = [(await post(server, body, headers)).json() for headers in (BEARER, OLD)]

    assert [{"deleted": 2, "failed": []}, {"deleted": 0, "failed": []}] == answers
    assert ["loadtest-lt-2-0000", "web"] == await hostnames(server)


async def test_whoever_does_not_know_the_key_or_asks_for_other_hosts_is_refused(tmp_path: Path) -> None:
    """With the sentences of existing servers, and nothing is deleted."""
    good = b'{"hostnamePrefix": "loadtest-"}'
    cases: list[tuple[dict[str, str], bytes, int, str]] = [
        ({}, good, 401, "Unauthorized"),
        ({"Authorization": f"Bearer {KEY}x"}, good, 401, "Unauthorized"),
        ({"Authorization": f"Basic {KEY}"}, good, 401, "Unauthorized"),
        ({"Authorization": "Bearer"}, good, 401, "Unauthorized"),
        ({"X-Loadtest-Admin-Key": ""}, good, 401, "Unauthorized"),
        (BEARER, b"{", 400, "Invalid JSON body"),
        (BEARER, b"\xff", 400, "Invalid JSON body"),
        (BEARER, b"[]", 400, "hostnamePrefix must be a string"),
        (BEARER, b'{"hostnamePrefix": 7}', 400, "hostnamePrefix must be a string"),
        (BEARER, b'{"hostnamePrefix": "web"}', 400, "hostnamePrefix must start with 'loadtest-'"),
        (BEARER, b" " * 5000, 413, "The body has more than 4096 bytes"),
    ]
    async with keyed_server(tmp_path) as server:
        await server.enrolled("loadtest-1")
        answers = [await post(server, body, headers) for headers, body, _, _ in cases]

        assert [(status, {"error": text}) for _, _, status, text in cases] == [
            (answer.status_code, answer.json()) for answer in answers
        ]
        assert ["loadtest-1"] == await hostnames(server)


async def test_the_endpoint_is_off_without_a_key_and_before_anything_else(tmp_path: Path) -> None:
    """Also for whoever sends an empty key."""
    async with keyed_server(tmp_path, key=None) as server:
        answers = [await post(server, b"{", headers) for headers in ({}, {"X-Loadtest-Admin-Key": ""}, OLD)]

    assert {503} == {answer.status_code for answer in answers}
    assert "CT_OPS_LOADTEST_ADMIN_KEY not set" in answers[0].json()["error"]


async def test_a_key_cannot_be_guessed_at_leisure(tmp_path: Path) -> None:
    """After so many tries a minute even the right key waits, and is told for how long."""
    wrong = {"Authorization": "Bearer wrong"}
    async with keyed_server(tmp_path) as server:
        tried = [(await post(server, b"{}", wrong)).status_code for _ in range(REQUESTS_A_MINUTE)]
        late = await post(server, b'{"hostnamePrefix": "loadtest-"}', BEARER)

    assert {401} == set(tried)
    assert 429 == late.status_code
    assert 0 < int(late.headers["Retry-After"]) <= 60

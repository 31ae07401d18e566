"""What every HTTP request shares: its id, its counter, its line in the log when it is refused."""

from __future__ import annotations

import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ct_ops_server.edge.http_requests import ObservedApp, RefusalLines, printable
from ct_ops_server.edge.request_ids import current_request_id


async def _who(_: Request) -> Response:
    return PlainTextResponse(current_request_id())


async def _fails(_: Request) -> Response:
    raise ZeroDivisionError(current_request_id())


def observed(answered: list[tuple[str, int]], now_s: float = 0.0) -> httpx.AsyncClient:
    app = ObservedApp(
        Starlette(routes=[Route("/who", _who), Route("/fails", _fails)]),
        name="local",
        lines=RefusalLines(lambda: now_s),
        answered=lambda name, status: answered.append((name, status)),
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def test_every_answer_carries_the_id_under_which_it_was_served() -> None:
    """Each request another one, and none after it; one that the client sends is not taken."""
    async with observed([]) as client:
        first = await client.get("/who", headers={"X-Request-Id": "mine"})
        second = await client.get("/who")

    assert first.headers["X-Request-Id"] == first.text != "mine"
    assert second.text not in {"", first.text}
    assert "" == current_request_id()


async def test_every_answer_is_counted_by_app_and_status() -> None:
    """Never by path, which is of the client's choosing."""
    answered: list[tuple[str, int]] = []
    async with observed(answered) as client:
        await client.get("/who")
        await client.get("/what")

    assert answered == [("local", 200), ("local", 404)]


async def test_a_refused_request_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With the path, the client and the status; a good one is none."""
    caplog.set_level(logging.INFO, "ct_ops_server.http")
    async with observed([]) as client:
        await client.get("/who")
        await client.get("/what%0aforged")

    assert ["GET /what?forged of 127.0.0.1 (local) refused with 404"] == caplog.messages


async def test_a_failure_of_ours_is_logged_with_its_traceback_under_the_id_that_was_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client gets a 500 and the id, and nothing of the error."""
    async with observed([]) as client:
        answer = await client.get("/fails")

    failed = caplog.records[-1]
    assert "GET /fails of 127.0.0.1 (local) failed" == failed.getMessage()
    assert failed.exc_info is not None
    assert (500, answer.headers["X-Request-Id"]) == (answer.status_code, str(failed.exc_info[1]))
    assert "ZeroDivision" not in answer.text


def test_attack_a_flood_of_refused_requests_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty lines in ten seconds, then one that says how many were kept back."""
    caplog.set_level(logging.INFO, "ct_ops_server.http")
    now_s = 0.0
    lines = RefusalLines(lambda: now_s)
    for _ in range(1_000):
        lines.refused("GET /", 404)
    assert 20 == len(caplog.messages)

    now_s = 10.0
    lines.refused("GET /", 404)
    assert ["980 more HTTP requests were refused before this one", "GET / refused with 404"] == (
        caplog.messages[20:]
    )


def test_a_path_in_a_line_is_short_and_printable() -> None:
    """It is of the client's choosing."""
    assert "/a?b" == printable("/a\x1bb")
    assert 200 == len(printable("/" * 10_000))

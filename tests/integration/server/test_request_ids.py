"""What a peer was told can be found in the server's log: both carry the request's id."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.cli.logs import JsonLines
from real_server import RealServer
from wire_client import Host


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The server's log, as JSON."""
    logger, stream = logging.getLogger("ct_ops_server"), io.StringIO()
    handler, level = logging.StreamHandler(stream), logger.level
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(level)


def refusals_in(log: io.StringIO) -> list[dict[str, Any]]:
    lines = map(json.loads, log.getvalue().splitlines())
    return [line for line in lines if "refused" in line["message"]]


def told_id(error: grpc.aio.AioRpcError) -> str:
    return str(dict(error.trailing_metadata() or ())["ct-ops-request-id"])


async def test_a_refused_register_and_its_line_carry_the_same_id(
    sqlite_server: RealServer, log: io.StringIO
) -> None:
    """Two of them: an id each."""
    told = []
    for name in ("ids-1", "ids-2"):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await sqlite_server.wire.register(Host(name), "tok_" + "a" * 32)
        told.append(told_id(refusal.value))

    assert told == [line["request_id"] for line in refusals_in(log)]
    assert {("Register", "token_unknown")} == {(line["method"], line["reason"]) for line in refusals_in(log)}
    assert 2 == len(set(told))


async def test_a_stream_that_is_refused_and_its_line_carry_the_same_id(
    sqlite_server: RealServer, log: io.StringIO
) -> None:
    """The streams of two agents at a time are not mixed up."""
    hosts = [await sqlite_server.enrolled(name) for name in ("ids-3", "ids-4")]
    told = {}
    async with sqlite_server.wire.connect(hosts[0]) as one, sqlite_server.wire.connect(hosts[1]) as two:
        streams = [stub.Heartbeat() for stub in (one, two)]
        for stream in streams:
            await stream.write(wire.HeartbeatRequest(agent_id="no token of this server"))
        for host, stream in zip(hosts, streams, strict=True):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                assert await stream.read() is grpc.aio.EOF
            told[host.agent_id] = told_id(refusal.value)

    logged = {line["message"].split(" of ")[1].split()[0]: line["request_id"] for line in refusals_in(log)}
    assert told == logged
    assert {"agent_token_invalid"} == {line["reason"] for line in refusals_in(log)}


async def test_a_refused_http_request_and_its_line_carry_the_same_id(
    sqlite_server: RealServer, log: io.StringIO
) -> None:
    """On the local app; the admin API likewise."""
    answer = await sqlite_server.get("/nowhere")

    (line,) = refusals_in(log)
    assert (404, line["request_id"]) == (answer.status_code, answer.headers["X-Request-Id"])
    counted = (await sqlite_server.get("/metrics")).text
    assert 'ct_ops_http_requests_total{app="local",status="404"} 1.0' in counted

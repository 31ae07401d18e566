"""What operators see of what arrived: `samples`, `agent show`, `agent list --degraded`, `/metrics`."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime

import prepared_commands
from ct_ops_proto.agent.v1 import ingest_pb2 as wire
from ct_ops_server.config.schema import Settings
from integration.server.test_delivery import HELLO, connected, deliver, now_ms, payload_of
from real_server import RealServer, real_server
from wire_client import Host

ROOT, SRV = 'disk.used_bytes{mount="/"}', 'disk.used_bytes{mount="/srv"}'


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``ct-ops-server`` as an operator does."""
    environ = {"INGEST_DATA_DIR": str(settings.data_dir), "DATABASE_URL": settings.database_url}
    return prepared_commands.run("ct_ops_server", *arguments, environ=environ)


def samples_at(at_ms: int) -> list[wire.Sample]:
    return [
        wire.Sample(series=ROOT, ts_ms=at_ms, value=3 * 2**30, unit="bytes"),
        wire.Sample(series=SRV, ts_ms=at_ms, value=512, unit="bytes"),
        wire.Sample(series="cpu.used_percent", ts_ms=at_ms, value=12.345, unit="percent"),
    ]


async def with_samples(server: RealServer, at_ms: int) -> Host:
    """Return a host that has delivered some samples."""
    host = await server.enrolled("web-1")
    async with connected(server, host) as (stream, _):
        await deliver(stream, host, 1, payload_of(samples=samples_at(at_ms)))
    return host


async def test_what_arrived_is_read_with_and_without_a_running_server(settings: Settings) -> None:
    """The same words for both; a name is all its series."""
    at_ms = now_ms() - 60_000
    async with real_server(settings) as server:
        await with_samples(server, at_ms)
        there = await server.ask("GET", "/v1/agents/web-1/series")
    listed = command(settings, "samples", "web-1")
    shown = command(settings, "samples", "web-1", "disk.used_bytes", "--since", "5m")
    as_json = command(settings, "samples", "web-1", SRV, "--json")
    by_hour = command(settings, "samples", "web-1", SRV, "--since", "30d", "--json")

    assert ["cpu.used_percent", ROOT, SRV] == [each["series"] for each in there]
    assert ["SERIES", "cpu.used_percent", ROOT, SRV] == [
        line.split()[0] for line in listed.stdout.splitlines()
    ]
    assert "12.35 %" in listed.stdout
    assert ["TIME", ROOT, SRV] == shown.stdout.splitlines()[0].split()
    assert ["3.0", "GiB", "512", "B"] == shown.stdout.splitlines()[1].split()[1:]
    (curve,) = json.loads(as_json.stdout)["series"]
    assert ["raw", "1h"] == [json.loads(each.stdout)["resolution"] for each in (as_json, by_hour)]
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    assert [(moment, 512.0)] == [
        (datetime.fromisoformat(each["at"]), each["value"]) for each in curve["points"]
    ]


async def test_a_name_that_is_not_there_is_guessed(settings: Settings) -> None:
    """And a time that is none is explained."""
    async with real_server(settings) as server:
        await with_samples(server, now_ms())
    typo = command(settings, "samples", "web-1", "disk.usde_bytes")
    late = command(settings, "samples", "web-1", "disk.used_bytes", "--since", "yesterday")
    before = command(settings, "samples", "web-1", "disk.used_bytes", "--until", "5m")
    backwards = command(settings, "samples", "web-1", "disk.used_bytes", "--since", "1m", "--until", "5m")

    assert (1, "") == (typo.returncode, typo.stdout)
    assert "did you mean disk.used_bytes?" in typo.stderr
    assert (2, True) == (late.returncode, "is neither how long ago" in late.stderr)
    assert (0, True) == (before.returncode, "nothing since 1h" in before.stdout)
    assert (2, True) == (backwards.returncode, "--since is the earlier one" in backwards.stderr)


async def test_a_connected_host_whose_collector_has_a_problem_is_shown_as_degraded(
    server: RealServer,
) -> None:
    """In the list, on its sheet, with the reason; its heartbeats flow all the while."""
    host = await server.enrolled("web-1")
    await server.enrolled("web-2")
    report = wire.CollectorReport(
        collectors=[
            wire.CollectorState(name="cpu", interval_ms=15_000),
            wire.CollectorState(name="disk", interval_ms=60_000, problem="/srv does not answer"),
        ]
    )
    first = wire.HeartbeatRequest(hello=HELLO.hello, collectors=report, timestamp_unix=now_ms() // 1000)
    async with connected(server, host, first) as (stream, _):
        await deliver(stream, host, 1, payload_of(samples=samples_at(now_ms()), gaps=7))
        degraded = await server.ask("GET", "/v1/agents?degraded=true")
        everybody = await server.ask("GET", "/v1/agents")
        sheet = await server.agent(host)
        metrics = (await server.get("/metrics")).text

    assert ["web-1"] == [each["hostname"] for each in degraded]
    assert ["collector disk: /srv does not answer", "the agent lost 7 samples (space)"] == [
        each["sentence"] for each in degraded[0]["degraded"]
    ]
    assert [True, False] == [bool(each["degraded"]) for each in everybody]
    assert "numbered" == sheet["delivery"]
    assert ["cpu", "disk"] == [each["name"] for each in sheet["collectors"]]
    assert [7] == [each["items"] for each in sheet["gaps"]]
    assert "ct_ops_items_lost_total 7.0" in metrics
    assert 'ct_ops_items_stored_total{kind="sample"} 3.0' in metrics
    assert "ct_ops_degraded_agents 0.0" in metrics


async def test_what_a_sheet_says_is_readable(settings: Settings) -> None:
    """Blocks with headings below the lines; nothing is degraded when the host is offline."""
    report = wire.CollectorReport(
        collectors=[wire.CollectorState(name="cpu", interval_ms=15_000, problem="odd")]
    )
    first = wire.HeartbeatRequest(hello=HELLO.hello, collectors=report)
    async with real_server(settings) as server:
        host = await server.enrolled("web-1")
        async with connected(server, host, first) as (stream, _):
            await deliver(stream, host, 1, payload_of(samples=[wire.Sample(series="cpu")], gaps=7))
    shown = command(settings, "agent", "show", "web-1")
    listed = command(settings, "agent", "list", "--degraded")

    assert "COLLECTOR" in shown.stdout
    assert "Lost by the agent:" in shown.stdout
    assert "Refused here:" in shown.stdout
    assert "DEGRADED" not in shown.stdout
    assert "no host is degraded: whoever is connected delivers\n" == listed.stdout

"""The watch over the server CA: it warns once, and records what time did."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ct_ops_server.audit.decisions import SERVER, Action, Decision
from ct_ops_server.authority.sealing import load_or_create_secret
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_certificate import ServerTls, load_or_create_tls
from ct_ops_server.fleet.following import Believed, Following
from ct_ops_server.fleet.server_ca_watch import AlarmMemory, Outlook, ServerCaWatch
from ct_ops_server.fleet.shared_server_cas import SharedServerCas
from ct_ops_server.ownership import one_at_a_time
from fakes.memory_server_cas import MemoryServerCas
from fakes.memory_store import MemoryStore

START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=3652)


class Fleet:
    """Some existing agents."""

    def __init__(self, existing: int) -> None:
        self.existing = existing

    async def record(self, reports: Mapping[str, Believed]) -> None:
        raise AssertionError(reports)

    async def following(self, *_any_of: bytes) -> Following:
        return Following(10, 10 - self.existing, self.existing, 0, ("old-1", "old-2")[: self.existing])


@pytest.mark.parametrize("existing", [0, 2])
async def test_ten_years_are_watched_by_their_dates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, existing: int
) -> None:
    """Three warnings while there are existing agents, none without; two steps that time takes, recorded once each."""
    secret, clock, fleet = load_or_create_secret(tmp_path / "secret"), [START], Fleet(existing)

    def load(now: datetime) -> ServerTls:
        return load_or_create_tls(tmp_path, secret, names=("server.example",), now=now)

    served, seen = ServedTls(load(START), load=load, ca_file=None, is_our_own=True), list[Outlook]()
    decisions = list[Decision]()
    shared = SharedServerCas(
        MemoryServerCas(MemoryStore(), lambda: clock[0], decisions.extend),
        secret,
        data_dir=tmp_path,
        alone=one_at_a_time,
        now=lambda: clock[0],
    )
    watch = ServerCaWatch(
        fleet,
        served,
        shared,
        AlarmMemory(tmp_path, one_at_a_time),
        observe=lambda outlook, _now: seen.append(outlook),
        now=lambda: clock[0],
    )
    for days_left in range(500, 0, -5):
        clock[0] = END - timedelta(days=days_left)
        await watch.take_due()
        if (found := served.candidate(clock[0])) is not None:
            served.accept(found)
        await watch.look()

    warned = [
        record.getMessage() for record in caplog.records if "cannot learn another" in record.getMessage()
    ]
    assert (3 if existing else 0) == len(warned)
    assert all("old-1, old-2" in each for each in warned)
    assert [Action.SERVER_CA_PREPARED, Action.SERVER_CA_ACTIVATED] == [each.action for each in decisions]
    assert {SERVER} == {each.actor for each in decisions}
    assert seen[0].end == seen[-1].end, "existing agents believe the old one until its end"

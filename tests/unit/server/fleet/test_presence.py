"""When absence counts: leases, the sweep, and the patience after a start or an outage."""

from __future__ import annotations

from datetime import timedelta

from ct_ops_server.fleet.ports import StoreUnavailableError
from ct_ops_server.fleet.presence import Presence, PresencePolicy

POLICY = PresencePolicy(
    renew_every=timedelta(seconds=5), lease_timeout=timedelta(seconds=15), grace=timedelta(seconds=60)
)


class Leases:
    """A presence store that writes down what it was asked, and may be out."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_out = False

    async def renew_lease(self, worker_id: str) -> None:
        self._answer(f"renew {worker_id}")

    async def drop_lease(self, worker_id: str) -> None:
        self._answer(f"drop {worker_id}")

    async def sweep(self, *, lease_timeout: timedelta) -> list[str]:
        self._answer(f"sweep {lease_timeout.total_seconds():g}")
        return ["a1"]

    def _answer(self, call: str) -> None:
        if self.is_out:
            raise StoreUnavailableError("no database")
        self.calls.append(call)


class Clock:
    """A monotonic clock that the test advances."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def presence(leases: Leases, clock: Clock) -> Presence:
    return Presence(leases, worker_id="w1", policy=POLICY, monotonic_s=clock)


async def test_after_a_start_nobody_is_swept_before_agents_had_time_to_come_back() -> None:
    """Two intervals long only the lease is renewed."""
    leases, clock = Leases(), Clock()
    kept = presence(leases, clock)
    clock.now_s = 59.9
    await kept.tick()
    clock.now_s = 60.0
    await kept.tick()

    assert ["renew w1", "renew w1", "sweep 15"] == leases.calls


async def test_after_an_outage_the_sweep_waits_again() -> None:
    """Agents could not report while the database was away, so their silence means nothing."""
    leases, clock = Leases(), Clock()
    kept = presence(leases, clock)
    clock.now_s, leases.is_out = 100.0, True
    await kept.tick()
    clock.now_s, leases.is_out = 159.0, False
    await kept.tick()
    clock.now_s = 160.0
    await kept.tick()

    assert ["renew w1", "renew w1", "sweep 15"] == leases.calls


async def test_an_orderly_end_gives_the_lease_back() -> None:
    """Its agents are offline at once instead of after the lease has grown stale."""
    leases = Leases()
    await presence(leases, Clock()).stop()

    assert ["drop w1"] == leases.calls


async def test_a_database_that_is_away_does_not_keep_the_server_from_stopping() -> None:
    """The lease then stays until it is stale."""
    leases = Leases()
    leases.is_out = True
    await presence(leases, Clock()).stop()

    assert [] == leases.calls

"""What agents believe is recorded beside their frames: in groups, once, and after an outage too."""

from __future__ import annotations

from collections.abc import Mapping

from ct_ops_server.fleet.anchor_log import AnchorLog
from ct_ops_server.fleet.following import AnchorSource, Believed, Following
from ct_ops_server.fleet.ports import StoreUnavailableError

OLD = Believed(AnchorSource.LEARNT, frozenset({b"o" * 32}))
BOTH = Believed(AnchorSource.LEARNT, frozenset({b"o" * 32, b"n" * 32}))


class Records:
    """A store that may be away."""

    def __init__(self) -> None:
        self.away = False
        self.groups: list[dict[str, Believed]] = []

    async def record(self, reports: Mapping[str, Believed]) -> None:
        if self.away:
            raise StoreUnavailableError("away")
        self.groups.append(dict(reports))

    async def following(self, *_any_of: bytes) -> Following:
        return Following(0, 0, 0, 0, ())


async def test_many_agents_are_one_write_and_the_same_again_is_none() -> None:
    """A fleet that reconnects says what is known already."""
    records = Records()
    log = AnchorLog(records)
    for _ in range(2):
        for number in range(50):
            log.note(f"agent-{number}", OLD)
        await log.flush()
    assert [50] == [len(group) for group in records.groups]
    log.note("agent-1", BOTH)
    await log.flush()
    assert records.groups[1:] == [{"agent-1": BOTH}]


async def test_during_an_outage_the_latest_word_of_each_agent_waits() -> None:
    """Nothing is lost, and nothing piles up."""
    records = Records()
    log = AnchorLog(records)
    records.away = True
    log.note("a", OLD)
    await log.flush()
    log.note("a", BOTH)
    await log.flush()
    records.away = False
    await log.flush()
    assert records.groups == [{"a": BOTH}]

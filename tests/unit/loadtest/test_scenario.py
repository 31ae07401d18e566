"""A run written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_loadtest.plan import Fault, Plan, PlanError, Slowness
from ct_ops_loadtest.scenario import load_scenario

WHOLE = """
agents = 2000
ramp = "60s"
duration = "10m"
heartbeat-interval = 15
seed = 7
simulate-tasks = false
check-failure-rate = 0.2

[[storm]]
at = "2m"
share = 0.5

[[outage]]
at = "4m"
for = "30s"
share = 0.2

[slow]
share = 0.05
bytes-per-second = 200
read-after = "3s"
"""


def loaded(folder: Path, text: str) -> Plan:
    (folder / "scenario.toml").write_text(text)
    return Plan(**{"run_id": "x"} | load_scenario(folder / "scenario.toml"))


def test_everything_that_a_run_does_can_be_written_down(tmp_path: Path) -> None:
    """Options by their names, and faults."""
    expected = Plan(
        "x", agents=2000, ramp_s=60, duration_s=600, interval_s=15, seed=7, simulate_tasks=False,
        check_failure_rate=0.2, faults=(Fault("storm", 120, 0.5), Fault("outage", 240, 0.2, 30)),
        slow=Slowness(0.05, 200, 3),
    )  # fmt: skip

    assert expected == loaded(tmp_path, WHOLE)


def test_an_empty_file_is_a_run_like_any_other(tmp_path: Path) -> None:
    """All defaults."""
    assert Plan("x") == loaded(tmp_path, "")


def test_every_mistake_is_named_with_its_key_all_at_once(tmp_path: Path) -> None:
    """Nobody repairs a file by trial."""
    text = """
agent = 3
ramp = "soon"
seed = true
[[storm]]
share = 0.5
[outage]
at = 1
[slow]
speed = 3
"""
    with pytest.raises(PlanError) as raised:
        loaded(tmp_path, text)
    said = str(raised.value)

    for sentence in (
        "agent: there is no such option; known are agents,",
        "ramp: 'soon' is no duration",
        "seed: True is no whole number",
        "storm: when (at) and, for an outage, how long (for) are missing",
        "outage: write [[outage]], for there may be several",
        "slow: has no speed; known are bytes-per-second, read-after, share",
    ):
        assert sentence in said


@pytest.mark.parametrize("text", ["agents = ", "\x00", 'slow = "very"', "[[storm]]\nat = 1\nshare = 2"])
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    """Never half of it taken."""
    with pytest.raises(PlanError):
        loaded(tmp_path, text)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    """With its path."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("none", "binary"):
        with pytest.raises(PlanError, match=rf"{name} cannot be read"):
            load_scenario(tmp_path / name)

"""What follows from a seed, and what cannot be done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ct_ops_loadtest.connection import Server
from ct_ops_loadtest.plan import Fault, Plan, PlanError, Slowness, Target, check_plan, seconds, share_of
from ct_ops_loadtest.tls import Trust

PLAN = Plan(
    "run-1", agents=400, faults=(Fault("storm", 10, 0.25), Fault("outage", 20, 0.5, 5)), slow=Slowness(0.1)
)


def choices(plan: Plan) -> list[tuple[object, ...]]:
    """Return everything that is decided about every agent."""
    return [
        (
            plan.starts_s(number), plan.first_beat_s(number), plan.pause_s(number, 3), plan.is_slow(number),
            plan.is_hit(number, 0), plan.is_hit(number, 1),
        )
        for number in range(plan.agents)
    ]  # fmt: skip


def test_the_same_seed_makes_the_same_plan() -> None:
    """For every agent by itself, so that it is the same with any number of processes; another seed, another one."""
    assert choices(PLAN) == choices(replace(PLAN, run_id="another"))
    assert choices(PLAN) != choices(replace(PLAN, seed=2))
    assert list(PLAN.timetable()) == list(replace(PLAN, run_id="another").timetable())


def test_shares_are_about_what_was_asked_for() -> None:
    """And two faults do not hit the same agents."""
    hit = [[PLAN.is_hit(number, fault) for number in range(400)] for fault in range(2)]
    slow = sum(PLAN.is_slow(number) for number in range(400))

    assert 70 < sum(hit[0]) < 130
    assert 160 < sum(hit[1]) < 240
    assert 20 < slow < 60
    assert hit[0] != hit[1]


def test_agents_start_evenly_over_the_ramp_and_beat_all_over_the_interval() -> None:
    """10,000 agents are a load and not a thunderclap."""
    starts = [PLAN.starts_s(number) for number in range(400)]
    beats = sorted(PLAN.first_beat_s(number) for number in range(400))

    assert (0.0, 15.0, 29.925) == (starts[0], starts[200], starts[-1])
    assert beats[0] < 3
    assert 27 < beats[-1] < 30
    assert all(27 <= PLAN.pause_s(number, 1) <= 33 for number in range(400))


def test_chance_is_even() -> None:
    """A share is a number from 0 up to 1."""
    shares = [share_of(1, "test", number) for number in range(2_000)]

    assert 0 <= min(shares) < 0.01
    assert 0.99 < max(shares) < 1
    assert 0.45 < sum(shares) / 2_000 < 0.55


def test_hosts_are_named_so_that_they_can_be_taken_back() -> None:
    """Prefix, run and number."""
    assert "loadtest-run-1-0007" == PLAN.hostname(7)
    check_plan(replace(PLAN, hostname_prefix="loadtest-night"))
    with pytest.raises(PlanError, match="nobody could take these hosts back"):
        check_plan(replace(PLAN, hostname_prefix="web"))
    with pytest.raises(PlanError, match="run id"):
        check_plan(replace(PLAN, run_id="a b"))


def test_a_fault_must_be_over_before_the_run_is() -> None:
    """Otherwise agents would be counted as lost that only were away."""
    with pytest.raises(PlanError, match="the outage at 20 s is not over when the run ends after 25 s"):
        check_plan(replace(PLAN, duration_s=25))
    with pytest.raises(PlanError, match="share of a fault"):
        check_plan(replace(PLAN, faults=(Fault("storm", 1, 1.5),)))
    check_plan(replace(PLAN, duration_s=0))


@pytest.mark.parametrize(
    ("text", "expected"), [("30s", 30), ("5m", 300), ("1h", 3600), ("250ms", 0.25), ("1.5", 1.5), ("0", 0)]
)
def test_durations_have_the_units_of_existing_tools(text: str, expected: float) -> None:
    """Or none: seconds."""
    assert expected == seconds(text)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1d", "1 s 2", "soon"])
def test_what_is_no_duration_is_said(text: str) -> None:
    """With how to write one."""
    with pytest.raises(PlanError, match="is no duration: write 30s"):
        seconds(text)


def test_a_target_does_not_show_its_token() -> None:
    """It ends in tracebacks of broken runs."""
    assert "tok_" not in repr(Target(Server("127.0.0.1", 1), Trust(), "tok_secret"))

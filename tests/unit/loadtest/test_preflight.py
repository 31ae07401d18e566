"""What is said before a run begins."""

from __future__ import annotations

import base64
import json

import pytest

from ct_ops_loadtest.plan import Plan
from ct_ops_loadtest.preflight import Host, clock_difference_s, host_troubles

PLAN = Plan("x", agents=10_000)


def test_a_host_that_can_carry_the_plan_has_no_troubles() -> None:
    """10,000 agents fit into 20,000 descriptors and the usual ports."""
    assert [] == list(host_troubles(Host(20_000, 28_232), PLAN, 1))


def test_too_few_descriptors_are_said_with_how_many_processes_would_do() -> None:
    """And so many are enough."""
    (trouble,) = host_troubles(Host(4_096, 28_232), PLAN, 1)

    assert "needs 10096 descriptors and may have 4096" in trouble
    assert "--processes 3" in trouble
    assert [] == list(host_troubles(Host(4_096, 28_232), PLAN, 3))


def test_too_few_local_ports_are_said() -> None:
    """More processes do not help; shared connections do."""
    host = Host(200_000, 28_232)
    (trouble,) = host_troubles(host, Plan("x", agents=30_000), 4)

    assert "ip_local_port_range" in trouble
    assert [] == list(host_troubles(host, Plan("x", agents=30_000, fanout=10), 4))


def agent_token(issued_s: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"iat": issued_s}).encode()).rstrip(b"=").decode()
    return f"header.{payload}.signature"


@pytest.mark.parametrize(
    ("issued_s", "difference_s"),
    [(1_000, 0.0), (999, -0.5), (1_001, 0.0), (900, -99.5), (1_100, 99.0)],
)
def test_the_clocks_are_compared_by_when_the_token_was_issued(issued_s: int, difference_s: float) -> None:
    """Asked at 1000.5 and answered at 1001.0: whatever lies between is no difference."""
    assert difference_s == clock_difference_s(agent_token(issued_s), 1_000.5, 1_001.0)


@pytest.mark.parametrize("token", ["", "opaque", "a.b.c", "a.e30.c", agent_token("noon")])
def test_a_token_without_a_time_says_nothing_about_clocks(token: str) -> None:
    """A server may issue what it likes."""
    assert 0.0 == clock_difference_s(token, 1.0, 2.0)

"""``ct-ops-loadtest`` on the command line: what cannot be used is said before anything is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ct_ops_loadtest import cli
from ct_ops_loadtest.cleanup import CleanedUp, CleanupError
from ct_ops_loadtest.connection import Server
from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.plan import Fault, Plan, Target
from ct_ops_loadtest.preflight import PreflightError
from ct_ops_loadtest.tls import Trust
from ct_ops_proto.enrolment_token import ServerHint, format_token, make_secret
from fakes.conforming_server import make_authority

SECRET = make_secret(b"\x55" * 20)
TOKEN = format_token(SECRET, ServerHint(bytes(32), ("ingest.example.com:9443", "192.0.2.1:9443")))
KEY = "k3y-of-the-load-test"


@dataclass
class Started:
    """What would have been run, and what came of it."""

    tally: Tally = field(default_factory=lambda: Tally(agents=2, registered=2, connected=2))
    targets: list[Target] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)
    preflight: str = ""

    async def probe(self, _target: Target, _plan: Plan) -> list[str]:
        """Take the preflight's place."""
        if self.preflight:
            raise PreflightError(self.preflight)
        return ["the clocks differ"]

    async def run(
        self, target: Target, plan: Plan, processes: int, *, stop: asyncio.Event, show: Callable[[str], None]
    ) -> Tally:
        """Take the flow's place."""
        assert not stop.is_set()
        self.targets.append(target)
        self.plans.append(plan)
        self.processes.append(processes)
        show("all agents have started")
        return self.tally


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    noted = Started()
    monkeypatch.setattr(cli, "run", noted.run)
    monkeypatch.setattr(cli, "probe", noted.probe)
    return noted


@pytest.fixture(scope="module")
def ca_cert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    file.write_text(make_authority("Some CA").pem)
    return file


def call(ca_cert: Path, *arguments: str, token: str | None = TOKEN) -> Result:
    environment = {"CT_OPS_ENROLMENT_TOKEN": token}
    return CliRunner().invoke(cli.main, ["run", "--ca-cert", str(ca_cert), *arguments], env=environment)


def cleaned_up(*arguments: str, key: str | None = KEY) -> Result:
    environment = {"CT_OPS_LOADTEST_ADMIN_KEY": key}
    arguments = ("cleanup", "--web-url", "http://127.0.0.1:8080", *arguments)
    return CliRunner().invoke(cli.main, arguments, env=environment)


def test_a_token_is_enough_to_find_the_server(started: Started, ca_cert: Path) -> None:
    """Its first address is used, and only its secret part is sent."""
    result = call(ca_cert, "--run-id", "x")

    assert 0 == result.exit_code
    assert [Target(Server("ingest.example.com", 9443), Trust(ca_cert.read_text()), SECRET)] == started.targets
    assert [
        Plan("x", agents=100, ramp_s=30, duration_s=300, interval_s=30, fanout=1, seed=1)
    ] == started.plans
    assert [1] == started.processes


def test_standard_output_is_one_json_object(started: Started, ca_cert: Path, tmp_path: Path) -> None:
    """With --json; everything else goes to standard error. --output-json writes the same into a file."""
    file = tmp_path / "figures.json"
    result = call(ca_cert, "--json", "--output-json", str(file), "--run-id", "x")

    expected = {"run_id": "x", "seed": 1, "planned_agents": 100} | json.loads(
        json.dumps(started.tally.figures())
    )
    assert expected == json.loads(result.stdout) == json.loads(file.read_text())
    assert "all agents have started" in result.stderr
    assert "warning: the clocks differ" in result.stderr
    assert "ct-ops-loadtest cleanup --run-id x" in result.stderr


def test_people_get_a_summary(started: Started, ca_cert: Path) -> None:
    """Without --json."""
    assert call(ca_cert).stdout.startswith("agents          2 of 2 registered")


def test_every_number_of_the_plan_can_be_said(started: Started, ca_cert: Path) -> None:
    """Each option ends in its own field."""
    call(
        ca_cert, "--address", "[::1]:9443", "--agents", "5", "--duration", "2m", "--heartbeat-interval", "0",
        "--registration-concurrency", "3", "--hostname-prefix", "loadtest-x", "--seed", "9", "--ramp", "1m",
        "--conn-fanout", "4", "--run-id", "r", "--processes", "2", "--no-simulate-tasks", "--metrics-jitter", "0.2",
        "--check-failure-rate", "0.5", "--storm", "10s", "--outage", "20s,5s,0.5", "--slow", "0.1", "--tls-skip-verify",
    )  # fmt: skip
    (plan,) = started.plans

    assert (5, 60.0, 120.0, 0.0, 4, 3) == (
        plan.agents, plan.ramp_s, plan.duration_s, plan.interval_s, plan.fanout, plan.concurrency,
    )  # fmt: skip
    assert ("r", "loadtest-x", 9, False, True) == (
        plan.run_id, plan.hostname_prefix, plan.seed, plan.simulate_tasks, plan.simulate_checks,
    )  # fmt: skip
    assert (0.5, 0.2, 0.1, 200.0) == (
        plan.check_failure_rate, plan.metrics_jitter, plan.slow.share, plan.slow.bytes_per_s,
    )  # fmt: skip
    assert (Fault("storm", 10), Fault("outage", 20, 0.5, 5)) == plan.faults
    assert ([2], Server("::1", 9443), False) == (
        started.processes, started.targets[0].server, started.targets[0].trust.verified,
    )  # fmt: skip


def test_options_win_over_the_scenario_file(started: Started, ca_cert: Path, tmp_path: Path) -> None:
    """And what neither says has its default."""
    (tmp_path / "s.toml").write_text('agents = 7\nseed = 3\n[[storm]]\nat = "1s"\n')
    call(ca_cert, "--scenario", str(tmp_path / "s.toml"), "--agents", "8")
    (plan,) = started.plans

    assert (8, 3, 30.0, (Fault("storm", 1),)) == (plan.agents, plan.seed, plan.ramp_s, plan.faults)


def test_runs_have_names_of_their_own(started: Started, ca_cert: Path) -> None:
    """So that one can be cleaned up and the other goes on."""
    for _ in range(2):
        call(ca_cert)
    one, other = (plan.run_id for plan in started.plans)

    assert one.startswith("lt-")
    assert one != other


def test_a_preflight_that_says_no_ends_before_the_run(started: Started, ca_cert: Path) -> None:
    """With its sentence and a code of its own."""
    started.preflight = "the token is not accepted: make a new one"
    result = call(ca_cert)

    assert (69, []) == (result.exit_code, started.plans)
    assert "the preflight failed: the token is not accepted" in result.stderr
    assert 0 == call(ca_cert, "--skip-preflight").exit_code


def test_a_token_is_read_from_a_file(started: Started, ca_cert: Path, tmp_path: Path) -> None:
    """With the line end that editors add."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    result = call(ca_cert, "--token-file", str(tmp_path / "token"), token=None)

    assert (0, SECRET) == (result.exit_code, started.targets[0].token)


def test_anything_refused_or_broken_fails_the_run(started: Started, ca_cert: Path) -> None:
    """Exit code 1, and the figures are still printed."""
    started.tally.failures, started.tally.refused = {"UNAVAILABLE: full": 1}, 1
    result = call(ca_cert, "--json")

    assert 1 == result.exit_code
    assert {"UNAVAILABLE: full": 1} == json.loads(result.stdout)["failures"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--agents", "0"), "'--agents': 0 is not in the range"),
        (("--agents", "many"), "'many' is not a valid integer"),
        (("--duration", "-1"), "'--duration': '-1' is no duration: write 30s"),
        (("--heartbeat-interval", "soon"), "'--heartbeat-interval': 'soon' is no duration"),
        (("--storm", "10s,half"), "'10s,half' is no storm"),
        (("--outage", "10s"), "'10s' is no outage"),
        (("--storm", "10m"), "the storm at 600 s is not over when the run ends after 300 s"),
        (("--hostname-prefix", "web"), "nobody could take these hosts back"),
        (("--run-id", "a/b"), "a run id has at most 64 letters"),
        (("--agents", "200000"), "local ports"),
        (("--registration-concurrency", "0"), "'--registration-concurrency': 0 is not in the range"),
        (("--address", "ingest.example.com"), "'ingest.example.com' is no address: give host:port"),
        (("--address", ":9443"), "':9443' is no address: give host:port"),
        (("--address", "host:99999"), "'host:99999' is no address: give host:port"),
        (("--token-file", "/no/such/file"), "No such file or directory"),
        (("--ca-cert", "/no/such/file"), "File '/no/such/file' does not exist"),
        (("--ca-cert", "/dev/null"), "/dev/null holds no certificate in PEM form"),
        (("--token", TOKEN), "No such option"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(
    started: Started, ca_cert: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, the option and what is wrong with it, and nothing is run."""
    result = call(ca_cert, *arguments)

    assert 2 == result.exit_code
    assert said in result.stderr
    assert [] == started.targets


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "no token: set CT_OPS_ENROLMENT_TOKEN or give --token-file"),
        ("  \n", "no token"),
        (TOKEN[:-1], "token incomplete, copy it again"),
        (SECRET, "the token names no server: give --address"),
    ],
)
def test_a_token_that_cannot_be_used_is_explained_and_not_shown(
    started: Started, ca_cert: Path, token: str | None, said: str
) -> None:
    """Exit code 2, a sentence with the next step, no secret and no traceback."""
    result = call(ca_cert, token=token)

    assert 2 == result.exit_code
    assert said in result.stderr
    assert SECRET not in result.output
    assert [] == started.targets


def test_a_token_file_that_is_no_text_is_explained(started: Started, ca_cert: Path, tmp_path: Path) -> None:
    """Someone gave a key or an archive instead."""
    (tmp_path / "token").write_bytes(b"\xff\xfe\x00tok_")
    result = call(ca_cert, "--token-file", str(tmp_path / "token"))

    assert (2, []) == (result.exit_code, started.targets)
    assert "the file of CT_OPS_ENROLMENT_TOKEN holds no text" in result.stderr


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have been deleted."""
    noted: list[tuple[Any, ...]] = []

    def clean_up(*arguments: Any) -> CleanedUp:
        noted.append(arguments)
        if "loadtest-down-" in arguments:
            raise CleanupError("the server does not answer")
        return CleanedUp(3, ("loadtest-stuck-1: in use",) if "loadtest-stuck-" in arguments else ())

    monkeypatch.setattr(cli, "clean_up", clean_up)
    return noted


def test_cleanup_deletes_the_hosts_of_one_run_or_of_all(asked: list[tuple[Any, ...]]) -> None:
    """By the prefix that the run gave them."""
    results = [cleaned_up("--run-id", "r-1"), cleaned_up("--all-runs")]

    assert [(0, "3 hosts deleted\n")] * 2 == [(result.exit_code, result.stdout) for result in results]
    assert [("http://127.0.0.1:8080", KEY, prefix) for prefix in ("loadtest-r-1-", "loadtest-")] == asked


@pytest.mark.parametrize(
    ("arguments", "key", "code", "said"),
    [
        ((), KEY, 2, "say which hosts: --run-id, or --all-runs"),
        (("--run-id", "x", "--all-runs"), KEY, 2, "say which hosts"),
        (("--run-id", "x", "--hostname-prefix", "web"), KEY, 2, "nobody could take these hosts back"),
        (("--run-id", "x"), None, 2, "no key: set CT_OPS_LOADTEST_ADMIN_KEY"),
        (("--run-id", "down"), KEY, 1, "the server does not answer"),
        (("--run-id", "stuck"), KEY, 1, "loadtest-stuck-1: in use"),
    ],
)
def test_a_cleanup_that_did_not_clean_up_says_why(
    asked: list[tuple[Any, ...]], arguments: tuple[str, ...], key: str | None, code: int, said: str
) -> None:
    """And never deletes what it was not told to."""
    result = cleaned_up(*arguments, key=key)

    assert code == result.exit_code
    assert said in result.stderr
    assert len(asked) == (code == 1)

"""``ct-ops-loadtest`` on the command line: what cannot be used is said before anything is sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ct_ops_loadtest import cli
from ct_ops_loadtest.figures import Tally
from ct_ops_loadtest.run import Plan
from ct_ops_loadtest.virtual_agent import Target
from ct_ops_proto.enrolment_token import ServerHint, format_token, make_secret
from fakes.conforming_server import make_authority

SECRET = make_secret(b"\x55" * 20)
TOKEN = format_token(SECRET, ServerHint(bytes(32), ("ingest.example.com:9443", "192.0.2.1:9443")))


@dataclass
class Started:
    """What would have been run, and what came of it."""

    tally: Tally = field(default_factory=lambda: Tally(registered=2))
    targets: list[Target] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)

    async def run(self, target: Target, plan: Plan, progress: Callable[[str], None]) -> Tally:
        """Take the flow's place."""
        self.targets.append(target)
        self.plans.append(plan)
        progress("registered")
        return self.tally


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    noted = Started()
    monkeypatch.setattr(cli, "run", noted.run)
    return noted


@pytest.fixture(scope="module")
def ca_cert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    file.write_text(make_authority("Some CA").pem)
    return file


def call(ca_cert: Path, *arguments: str, token: str | None = TOKEN) -> Result:
    environment = {"CT_OPS_ENROLMENT_TOKEN": token}
    return CliRunner().invoke(cli.main, ["run", "--ca-cert", str(ca_cert), *arguments], env=environment)


def test_a_token_is_enough_to_find_the_server(started: Started, ca_cert: Path) -> None:
    """Its first address is used, and only its secret part is sent."""
    result = call(ca_cert)

    assert 0 == result.exit_code
    assert [Target("ingest.example.com:9443", ca_cert.read_bytes(), SECRET)] == started.targets
    assert [Plan(100, 10.0, 30.0, 32, "loadtest", 1)] == started.plans


def test_standard_output_is_one_json_object(started: Started, ca_cert: Path) -> None:
    """Progress goes to standard error, so that a script can read the figures."""
    result = call(ca_cert)

    assert started.tally.figures() == json.loads(result.stdout)
    assert "registered\n" == result.stderr


def test_every_number_of_the_plan_can_be_said(started: Started, ca_cert: Path) -> None:
    """Each option ends in its own field."""
    call(
        ca_cert, "--address", "127.0.0.1:9443", "--agents", "5", "--duration", "0.5", "--heartbeat-interval", "0",
        "--registration-concurrency", "3", "--hostname-prefix", "x", "--seed", "9",
    )  # fmt: skip

    assert [Plan(5, 0.5, 0.0, 3, "x", 9)] == started.plans
    assert "127.0.0.1:9443" == started.targets[0].address


def test_a_token_is_read_from_a_file(started: Started, ca_cert: Path, tmp_path: Path) -> None:
    """With the line end that editors add."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    result = call(ca_cert, "--token-file", str(tmp_path / "token"), token=None)

    assert (0, SECRET) == (result.exit_code, started.targets[0].token)


def test_anything_refused_or_broken_fails_the_run(started: Started, ca_cert: Path) -> None:
    """Exit code 1, and the figures are still printed."""
    started.tally.failures = Counter({"UNAVAILABLE: full": 1})
    result = call(ca_cert)

    assert 1 == result.exit_code
    assert {"UNAVAILABLE: full": 1} == json.loads(result.stdout)["failures"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--agents", "0"), "'--agents': 0 is not in the range"),
        (("--agents", "many"), "'many' is not a valid integer"),
        (("--duration", "0"), "'--duration': 0.0 is not in the range"),
        (("--duration", "-1"), "'--duration': -1.0 is not in the range"),
        (("--heartbeat-interval", "-1"), "'--heartbeat-interval': -1.0 is not in the range"),
        (("--registration-concurrency", "0"), "'--registration-concurrency': 0 is not in the range"),
        (("--address", "ingest.example.com"), "'ingest.example.com' is no address: give host:port"),
        (("--address", ":9443"), "':9443' is no address: give host:port"),
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
    assert "token incomplete, copy it again" in result.stderr

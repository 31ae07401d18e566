"""`ct-ops-agent status` as scripts and people call it."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ct_ops_agent.cli import main
from ct_ops_agent.identity.files import locked_directory
from ct_ops_agent.status.place import STATUS_NAME, write_report
from ct_ops_agent.status.report import Report, State


def call(data: Path, *arguments: str) -> Result:
    environment = {"CT_OPS_DATA_DIR": str(data), "RUNTIME_DIRECTORY": str(data)}
    return CliRunner().invoke(main, ("status", *arguments), env=environment)


def report_now(data: Path, state: State = State.CONNECTED) -> None:
    """Let this very process have reported."""
    now = time.time()
    report = Report(os.getpid(), "1.0", str(data), state, now, now, hostname="web-1", acknowledged_at=now)
    write_report(data / STATUS_NAME, report)


@pytest.mark.parametrize(("state", "code"), [(State.CONNECTED, 0), (State.REFUSED, 4)])
def test_a_living_agent(tmp_path: Path, state: State, code: int) -> None:
    """0 when it is well, 4 when it is not; the same in both forms."""
    report_now(tmp_path, state)
    with locked_directory(tmp_path):
        human, machine = call(tmp_path), call(tmp_path, "--json")

    assert (code, code) == (human.exit_code, machine.exit_code)
    assert human.output.startswith(f"ct-ops-agent 1.0 on web-1: {state}\n")
    document = json.loads(machine.output)
    assert (True, state.value, "web-1") == (document["running"], document["status"], document["hostname"])


def test_a_stale_file_is_not_a_running_agent(tmp_path: Path) -> None:
    """The process exists (it is ours), and holds no lock on the directory."""
    report_now(tmp_path)
    result = call(tmp_path)

    assert 3 == result.exit_code
    assert "not running" in result.output


def test_nothing_is_not_a_running_agent(tmp_path: Path) -> None:
    """JSON all the same."""
    result = call(tmp_path, "-json")

    assert (3, {"status": "not running", "running": False}) == (
        result.exit_code,
        {name: json.loads(result.output)[name] for name in ("status", "running")},
    )


def test_a_configuration_that_cannot_work_is_78(tmp_path: Path) -> None:
    """It does not even say where to look."""
    result = call(tmp_path, "-config", str(tmp_path / "gone.toml"))

    assert 78 == result.exit_code
    assert "cannot read" in result.stderr

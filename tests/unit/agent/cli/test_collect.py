"""``collect``, ``collectors`` and ``config``, as an operator types them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import tomli
from click.testing import CliRunner, Result

from ct_ops_agent.cli.root import main


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a program that works and one that does not."""
    path = tmp_path / "agent.toml"
    path.write_text(
        "[[collectors.exec]]\nname = 'fine'\ncommand = ['/bin/echo', '{\"name\": \"value\", \"value\": 3}']\n"
        "[[collectors.exec]]\nname = 'broken'\ncommand = ['/bin/false']\n"
    )
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_collect_prints_what_a_collector_yields(config: Path) -> None:
    """A line a sample, values in a column."""
    result = run("collect", "fine", "-config", str(config))

    assert 0 == result.exit_code
    assert ["fine.run_seconds", "fine.value"] == [line.split()[0] for line in result.output.splitlines()]


def test_collect_fails_when_one_has_failed_and_still_prints_the_others(config: Path) -> None:
    """With its problem on standard error."""
    result = run("collect", "fine", "broken", "-config", str(config))

    assert 1 == result.exit_code
    assert "fine.value" in result.stdout
    assert "broken: /bin/false ended with exit code 1" in result.stderr


def test_collect_prints_json_and_prometheus_text(config: Path) -> None:
    """For programs."""
    document = json.loads(run("collect", "fine", "--json", "-config", str(config)).stdout)
    text = run("collect", "fine", "--prometheus", "-config", str(config)).stdout

    assert {"fine.value": 3.0} == {
        one["series"]: one["value"] for one in document["samples"] if one["series"] == "fine.value"
    }
    assert "ct_ops_fine_value 3\n" in text


def test_a_collector_that_is_off_can_be_run_by_name(tmp_path: Path) -> None:
    """To see what it would say."""
    (tmp_path / "agent.toml").write_text("[collectors.uptime]\nenabled = false\n")
    result = run("collect", "uptime", "-config", str(tmp_path / "agent.toml"))

    assert (0, True) == (result.exit_code, "uptime.seconds" in result.output)


def test_one_that_is_off_is_run_with_its_own_keys(tmp_path: Path) -> None:
    """As the file has them."""
    (tmp_path / "ok.prom").write_text("fine 1\n")
    config = tmp_path / "agent.toml"
    config.write_text(f'[collectors.textfile]\nenabled = false\ndirectory = "{tmp_path}"\n')
    result = run("collect", "textfile", "-config", str(config))

    assert (0, True) == (result.exit_code, "textfile.fine" in result.output)


def test_a_name_that_does_not_exist_is_a_usage_error_with_a_guess(config: Path) -> None:
    """As everywhere."""
    result = run("collect", "uptme", "-config", str(config))

    assert 2 == result.exit_code
    assert "did you mean uptime?" in result.output


def test_collectors_are_listed_with_what_runs_here(config: Path) -> None:
    """Also programs of the configuration, and those that are off."""
    rows = json.loads(run("collectors", "list", "--json", "-config", str(config)).stdout)
    runs = {row["name"]: row["runs"] for row in rows}

    assert (True, True, False) == (runs["cpu"], runs["fine"], runs["certificates"])


def test_a_collector_is_explained(config: Path) -> None:
    """What it reads, costs, needs and yields, and its keys."""
    result = run("collectors", "show", "listening_ports", "-config", str(config))

    document = json.loads(run("collectors", "show", "cpu", "--json", "-config", str(config)).stdout)

    assert (0, "cpu", 60.0) == (result.exit_code, document["name"], document["interval_s"])
    for part in (
        "/proc/net/tcp",
        "CAP_SYS_PTRACE",
        "listening_ports.open{port,process,protocol}",
        "enabled = true",
    ):
        assert part in result.output


def test_a_sample_is_written_once_and_replaced_only_when_asked(tmp_path: Path) -> None:
    """Whole, readable, and valid."""
    path = tmp_path / "agent.toml"
    first = run("config", "create", "-o", str(path))
    path.write_text("[agent]\nhostname = 'kept'\n")
    second = run("config", "create", "-o", str(path))
    kept = path.read_text()
    third = run("config", "create", "-o", str(path), "--force")

    assert (0, 2, 0) == (first.exit_code, second.exit_code, third.exit_code)
    assert "kept" in kept
    assert "--force replaces it" in second.output
    assert {"ingest", "agent", "outbox", "collectors"} == set(tomli.loads(path.read_text()))
    assert 0o644 == stat.S_IMODE(path.stat().st_mode)
    assert [path] == list(tmp_path.iterdir())


def test_a_sample_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    """No traceback."""
    result = run("config", "create", "-o", str(tmp_path / "none" / "agent.toml"))

    assert 1 == result.exit_code
    assert "cannot be written: No such file or directory" in result.output


def test_check_tells_every_mistake_at_once(tmp_path: Path) -> None:
    """With the exit code of configuration errors."""
    path = tmp_path / "agent.toml"
    path.write_text("[agent]\nheartbeat_interval_secs = 0\n[collectors.cpu]\nintervall = '5m'\n")
    result = run("config", "check", "-config", str(path))

    assert 78 == result.exit_code
    assert "agent.heartbeat_interval_secs: 0 is out of range" in result.output
    assert "collectors.cpu.intervall: there is no such key" in result.output


def test_show_says_where_each_value_comes_from_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file, from the environment, by default."""
    path = tmp_path / "agent.toml"
    path.write_text("[agent]\nhostname = 'web-1'\nenrolment_token = 'opaque-token-of-an-existing-server'\n")
    monkeypatch.setenv("CT_OPS_INGEST_ADDRESS", "ingest.example.com:9443")
    rows = {
        row["key"]: row for row in json.loads(run("config", "show", "--json", "-config", str(path)).stdout)
    }

    assert ("web-1", str(path)) == (rows["agent.hostname"]["value"], rows["agent.hostname"]["from"])
    assert "CT_OPS_INGEST_ADDRESS" == rows["ingest.address"]["from"]
    assert "default" == rows["agent.heartbeat_interval_secs"]["from"]
    assert "(set, not shown)" == rows["agent.enrolment_token"]["value"]

"""The command line as existing units, scripts and people call it."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ct_ops_agent import __version__
from ct_ops_agent.cli import installing, main, running, uninstalling
from ct_ops_agent.cli.exits import exit_code_for
from ct_ops_agent.config.schema import AgentConfig
from ct_ops_agent.errors import (
    AgentError,
    ApprovalPendingError,
    ConfigError,
    CredentialRejectedError,
    DataDirectoryError,
    EnrolmentRefusedError,
    Refusal,
    UnreachableError,
)

NO = Refusal("", "", "")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, AgentConfig]]:
    """Note what would be run instead of running it."""
    runs: list[tuple[str, AgentConfig]] = []
    monkeypatch.setattr(running, "_run_daemon", lambda config: runs.append(("daemon", config)))
    monkeypatch.setattr(running, "_run_once", lambda config: runs.append(("once", config)))
    monkeypatch.setattr(running, "configure_logging", lambda: None)
    return runs


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "-config", "{toml}"),
        ("-config", "{toml}"),
        ("--config", "{toml}"),
        ("run", "--config={toml}"),
        ("-config={toml}",),
    ],
)
def test_the_daemon_starts_with_and_without_its_command(
    started: list[tuple[str, AgentConfig]], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """`run` may be left out, and long options have one dash or two."""
    toml = tmp_path / "agent.toml"
    toml.write_text('[agent]\nhostname = "from-file"\n')

    result = call(*(argument.format(toml=toml) for argument in arguments))

    assert (0, ["daemon"], "from-file") == (
        result.exit_code,
        [kind for kind, _ in started],
        started[0][1].hostname,
    )


def test_no_argument_at_all_starts_the_daemon(started: list[tuple[str, AgentConfig]]) -> None:
    """A container that is given nothing but environment variables."""
    assert (0, "e:1") == (call(CT_OPS_INGEST_ADDRESS="e:1").exit_code, started[0][1].address)


def test_flags_reach_the_configuration(started: list[tuple[str, AgentConfig]]) -> None:
    """As an existing install script passes them."""
    result = call(
        "--token",
        "opaque",
        "--address",
        "a:1",
        "--tls-skip-verify",
        "--tag",
        "env=prod",
        "-tag",
        "a:b",
        "-once",
    )

    kind, config = started[0]
    assert ("once", "a:1", True, 2) == (kind, config.address, config.tls_skip_verify, len(config.tags))
    assert "warning: a token given as -token VALUE can be seen" in result.stderr


def test_a_flag_that_is_not_given_says_nothing(started: list[tuple[str, AgentConfig]]) -> None:
    """Without -tls-skip-verify the environment decides."""
    call("run", CT_OPS_INGEST_TLS_SKIP_VERIFY="true")

    assert started[0][1].tls_skip_verify


def test_problems_are_listed_and_end_with_78(started: list[tuple[str, AgentConfig]]) -> None:
    """One line each, nothing is started."""
    result = call("run", "-address", "https://x", CT_OPS_HEARTBEAT_INTERVAL_SECS="0")

    assert (78, []) == (result.exit_code, started)
    assert "  ingest.address: 'https://x' is no host:port" in result.stderr
    assert "  agent.heartbeat_interval_secs: 0 is out of range" in result.stderr


def test_flags_of_existing_installers_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-install -token T -address A -tag k=v -tls-skip-verify`, without a command's name."""
    asked: list[Any] = []
    monkeypatch.setattr(installing, "install_as_asked", asked.append)
    result = call(
        "-install", "-token", "T", "-address", "a:1", "-tag", "k=v", "-tls-skip-verify", "-config", "x"
    )

    (given,) = asked
    assert 0 == result.exit_code
    assert ("T", "a:1", ("k=v",), True, Path("x")) == tuple(
        given[name] for name in ("token", "address", "tags", "tls_skip_verify", "offered")
    )
    assert (None, False) == (given["root"], given["dry_run"])


def test_flags_of_existing_installers_uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-uninstall`."""
    asked: list[Any] = []
    monkeypatch.setattr(uninstalling, "uninstall_as_asked", lambda _machine, **how: asked.append(how))

    assert 0 == call("-uninstall").exit_code
    assert [{"keep_identity": False, "dry_run": False, "deregister": False}] == asked


def test_installing_and_uninstalling_at_once_is_wrong_usage() -> None:
    """One of them is a slip."""
    assert 2 == call("-install", "-uninstall").exit_code


@pytest.mark.parametrize("flag", ["-version", "-v", "--version"])
def test_the_version_is_told(flag: str) -> None:
    """All three spellings of existing scripts."""
    assert (0, f"ct-ops-agent {__version__}\n") == (call(flag).exit_code, call(flag).output)


@pytest.mark.parametrize("arguments", [("--help",), ("-help",), ("run", "--help")])
def test_help_documents_the_exit_codes(arguments: tuple[str, ...]) -> None:
    """Whoever writes a script finds them where they look first."""
    output = call(*arguments).output

    assert all(f"\n    {code} " in output for code in (0, 1, 2, 69, 77, 78))


def test_an_unknown_option_is_wrong_usage() -> None:
    """Exit code 2, as everywhere."""
    assert 2 == call("-confg", "x").exit_code


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigError([]), 78),
        (UnreachableError(""), 69),
        (EnrolmentRefusedError("", NO), 77),
        (CredentialRejectedError("", NO), 77),
        (ApprovalPendingError("", ""), 77),
        (DataDirectoryError(""), 1),
    ],
)
def test_each_failure_has_its_exit_code(error: AgentError, expected: int) -> None:
    """As documented."""
    assert expected == exit_code_for(error)


@pytest.mark.parametrize("words", [("-config", "{toml}", "status"), ("--config={toml}", "status")])
def test_the_configuration_may_be_named_before_the_command(tmp_path: Path, words: tuple[str, ...]) -> None:
    """As it may be for `run`; it is not taken for one of `run`'s own words."""
    toml = tmp_path / "agent.toml"
    toml.write_text(f'[agent]\ndata_dir = "{tmp_path}/data"\n')
    result = call(*(word.format(toml=toml) for word in words))

    assert "not running" in result.output

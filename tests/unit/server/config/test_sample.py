"""The sample of server.env: complete, and true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ct_ops_server.cli import main
from ct_ops_server.config.env_file import parse_env_file
from ct_ops_server.config.load import load_settings
from ct_ops_server.config.sample import sample_env
from ct_ops_server.config.variables import VARIABLES


def test_every_variable_is_in_the_sample_once_and_commented_out() -> None:
    """So that the sample as it comes changes nothing."""
    assert re.findall(r"^#([A-Z0-9_]+)=", sample_env(), re.MULTILINE) == [each.name for each in VARIABLES]
    assert parse_env_file(sample_env(), name="sample").values == {}


def test_a_default_that_is_uncommented_is_the_default(tmp_path: Path) -> None:
    """Every line that shows one, at once; but for the one file that must be there once it is named."""
    named = re.compile(r"^#((?!INGEST_WEB_SERVER_CERT)[A-Z_]+=.+)$", re.MULTILINE)
    shown = named.sub(r"\1", sample_env())
    (tmp_path / "server.env").write_text(shown)

    settings = load_settings({}, env_file=tmp_path / "server.env")
    defaults = load_settings({}, env_file=tmp_path / "none")
    assert settings.database_url == defaults.database_url
    assert settings.samples_keep == defaults.samples_keep
    assert settings.secret_file == defaults.secret_file
    assert settings.notices == ()


def test_a_sample_never_replaces_a_file(tmp_path: Path) -> None:
    """It would be somebody's settings."""
    file = tmp_path / "server.env"
    first = CliRunner().invoke(main, ["config", "create", "-o", str(file)])
    file.write_text("INGEST_GRPC_PORT=1\n")
    second = CliRunner().invoke(main, ["config", "create", "-o", str(file)])

    assert (first.exit_code, second.exit_code) == (0, 2)
    assert "is there already" in second.output
    assert file.read_text() == "INGEST_GRPC_PORT=1\n"


@pytest.mark.parametrize("words", [["config", "create", "--stdout"]])
def test_the_sample_can_be_printed(words: list[str]) -> None:
    """For packages."""
    assert CliRunner().invoke(main, words).output == sample_env()

"""The examples of the documentation work: as a package that is installed, and by their own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.fixture(params=sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def example(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def installed(example: Path, tmp_path: Path) -> dict[str, str]:
    """Return an environment in which the example is installed: its code, and its entry points as pip writes them."""
    project = tomli.loads((example / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in groups
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(example / "src"), str(metadata.parent)])}


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_its_own_tests_pass(example: Path, installed: dict[str, str]) -> None:
    """They are what an author copies."""
    done = run(
        ["pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(example / "tests")], installed
    )

    assert 0 == done.returncode, done.stdout


def test_the_agent_runs_it_where_its_configuration_allows_it(
    example: Path, installed: dict[str, str], tmp_path: Path
) -> None:
    """And says what is missing where it does not."""
    (tmp_path / "mdstat").write_text(
        "md0 : active raid1 sdb1[1] sda1[0]\n      976630464 blocks super 1.2 [2/2] [UU]\n"
    )
    (tmp_path / "with.toml").write_text(
        f'[collectors]\nallowed = ["raid"]\n[collectors.raid]\nmdstat = "{tmp_path}/mdstat"\n'
    )
    (tmp_path / "without.toml").write_text("")
    done = run(["ct_ops_agent", "collect", "raid", "-config", str(tmp_path / "with.toml")], installed)
    refused = run(["ct_ops_agent", "collect", "raid", "-config", str(tmp_path / "without.toml")], installed)

    assert 'raid.disks_working{array="md0"}  ' in done.stdout
    assert (0, 2) == (done.returncode, refused.returncode)
    assert "no such collector" in refused.stderr

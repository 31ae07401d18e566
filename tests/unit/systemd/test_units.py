"""The systemd units: no key that systemd does not know, and as little as can be reached from inside."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "systemd"
EXPOSURE = {"ct-ops-agent.service": 2.0, "ct-ops-server.service": 1.5}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


@needs_systemd
@pytest.mark.parametrize("unit", EXPOSURE)
def test_the_exposure_stays_below_its_limit(unit: str) -> None:
    """As systemd itself scores it."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNITS / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    (score,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)

    assert EXPOSURE[unit] >= float(score)


@needs_systemd
@pytest.mark.parametrize("unit", EXPOSURE)
def test_systemd_knows_every_key(unit: str, tmp_path: Path) -> None:
    """It only warns about others, and a typo in a sandbox is a hole."""
    text = (UNITS / unit).read_text()
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    text = re.sub(r"^(User|Group|Documentation)=.*\n", "", text, flags=re.MULTILINE)
    (tmp_path / unit).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert [] == [line for line in done.stderr.splitlines() if unit in line]


@pytest.mark.parametrize("unit", EXPOSURE)
def test_a_unit_that_cannot_start_is_not_started_for_ever(unit: str) -> None:
    """77 and 78 are answers that another start does not change; and readiness is told, not guessed."""
    text = (UNITS / unit).read_text()

    assert "\nRestartPreventExitStatus=77 78\n" in text
    assert "\nType=notify\n" in text
    assert "\nRestart=always\n" in text

"""The unit that travels with the agent, and what is put beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from ct_ops_agent.catalog import Catalog
from ct_ops_agent.collector import About, Privilege
from ct_ops_agent.service.unit import (
    collectors_drop_in,
    data_drop_in,
    old_credential_drop_in,
    sysusers_text,
    unit_text,
)

SYSTEMD = Path(__file__).parents[4] / "systemd"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def about(name: str, privilege: Privilege) -> About:
    return About(name, "s", "r", "c", timedelta(seconds=1), (), privilege=privilege)


def test_the_unit_that_travels_is_the_one_of_the_tree() -> None:
    """There is no second text that could differ."""
    assert (SYSTEMD / "ct-ops-agent.service").read_text() == unit_text()
    assert (SYSTEMD / "ct-ops-agent.sysusers.conf").read_text() == sysusers_text()


def test_collectors_that_need_nothing_get_no_drop_in() -> None:
    """An empty one would look as if it granted something."""
    assert "" == collectors_drop_in([about("cpu", Privilege())])


def test_what_several_collectors_need_is_granted_once() -> None:
    """Sorted, each with why."""
    text = collectors_drop_in(
        [
            about(
                "b", Privilege(("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"), ("adm",), ("/srv/b",), "b is blind")
            ),
            about("a", Privilege(("CAP_DAC_READ_SEARCH",), readable=("/srv/a",))),
        ]
    )

    assert "# b: without it, b is blind\n" in text
    assert [
        "[Service]",
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE",
        "AmbientCapabilities=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE",
        "SupplementaryGroups=adm",
        "BindReadOnlyPaths=-/srv/a",
        "BindReadOnlyPaths=-/srv/b",
    ] == text.splitlines()[-6:]


@needs_systemd
def test_systemd_understands_every_drop_in_and_the_sandbox_stays(tmp_path: Path) -> None:
    """With everything that any built-in collector asks for, exposure stays below 3."""
    catalog = Catalog()
    drop_ins = (
        old_credential_drop_in(),
        data_drop_in(Path("/srv/ct ops/100%")),
        collectors_drop_in(catalog.load(name).about for name in catalog.names),
    )
    unit = tmp_path / "ct-ops-agent.service"
    text = re.sub(r"^(User|Group|Documentation)=.*\n", "", unit_text(), flags=re.MULTILINE)
    unit.write_text(
        re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE) + "\n".join(drop_ins)
    )
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    (score,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", scored.stdout)

    assert [] == [line for line in verified.stderr.splitlines() if unit.name in line]
    assert 3.0 > float(score)

"""Installing onto a host in a folder, for the tests of what is installed and of what is taken off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ct_ops_agent.secret import Secret
from ct_ops_agent.service import layout
from ct_ops_agent.service.build import Library
from ct_ops_agent.service.doing import do_all, only_one
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.service.merging import Demands
from ct_ops_agent.service.plan import Wanted, plan_installation
from ct_ops_agent.service.steps import Step
from ct_ops_agent.service.survey import Facts, look_at
from ct_ops_agent.service.wanted import Request, complete
from fakes.recording_host import RecordingHost

TOKEN = Secret("tok_" + "a" * 32)
OLD_UNIT = "[Service]\nExecStart=/usr/local/bin/ct-ops-agent -config /etc/ct-ops/agent.toml\n"


def looked_at(host: Machine) -> Facts:
    """Return what is seen of a host, on which everything that is not looked for here is well."""
    return replace(
        look_at(host),
        has_systemd=True,
        has_sysusers=True,
        systemd_version=252,
        library=Library(),
    )


def planned(
    host: Machine,
    folder: Path,
    token: Secret = TOKEN,
    *,
    demands: Demands | None = None,
    offered: Path | None = None,
    **facts_said: Any,
) -> tuple[Facts, Wanted, tuple[Step, ...]]:
    facts = replace(looked_at(host), **facts_said)
    request = Request(folder, demands or Demands(), offered, token=token)
    wanted = complete(request, facts, host)
    return facts, wanted, plan_installation(facts, wanted, image=host.is_image)


def install(host: Machine, folder: Path, token: Secret = TOKEN, **said: Any) -> list[str]:
    """Install; return what was said."""
    lines: list[str] = []
    _, _, steps = planned(host, folder, token, **said)
    with only_one(host):
        do_all(steps, host, lines.append)
    return lines


def existing_agent(host: RecordingHost) -> None:
    """Put an existing agent onto the host, as its own installer does: root's, with the token in its file."""
    for path, text, mode in (
        (layout.PROGRAM, "an existing agent", 0o755),
        (layout.UNIT, OLD_UNIT, 0o644),
        (
            layout.CONFIGURATION,
            '[ingest]\naddress = "old:9443"\n\n[agent]\norg_token = "opaque-secret"\n',
            0o600,
        ),
        (layout.DATA / "agent_key.pem", "key", 0o600),
        (layout.DATA / "agent_state.json", '{"agent_id": "abc"}', 0o600),
    ):
        host.at(path).parent.mkdir(parents=True, exist_ok=True)
        host.at(path).write_text(text)
        host.at(path).chmod(mode)

"""The unit that comes with the agent, and the drop-ins that a host or a collector needs beside it.

The unit is sandboxed for an agent that needs nothing. What a collector needs beyond that is its author's
word (`collector.Privilege`), and becomes a drop-in that an operator reads before it is put there: so the unit
itself never changes with the configuration, and an upgrade replaces it whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

from ct_ops_agent.collector import About, Privilege
from ct_ops_agent.service.layout import CREDENTIAL, DROP_INS, NAME, OLD_CREDENTIAL

COLLECTORS_DROP_IN = DROP_INS / "collectors.conf"
CREDENTIAL_STORE_SINCE = 251
"""Older ones either want an absolute path, whose missing file stops the unit, or know no credentials at all."""


def unit_text() -> str:
    """Return the unit."""
    return _packaged(f"{NAME}.service")


def sysusers_text() -> str:
    """Return what tells systemd-sysusers about the agent's user."""
    return _packaged(f"{NAME}.sysusers.conf")


def credential_place(systemd_version: int) -> Path:
    """Return where the enrolment token of a host with this systemd belongs."""
    return CREDENTIAL if systemd_version >= CREDENTIAL_STORE_SINCE else OLD_CREDENTIAL


def old_credential_drop_in() -> str:
    """Return what stands in for the credential store: the agent reads the folder itself.

    A file that is gone is no error there either, and nobody but root and the agent's user gets in.
    """
    return (
        f"# This systemd has no credential store (it comes with {CREDENTIAL_STORE_SINCE}).\n"
        "[Service]\n"
        "LoadCredential=\n"
        f"Environment=CREDENTIALS_DIRECTORY={OLD_CREDENTIAL.parent}\n"
    )


def data_drop_in(data_dir: Path) -> str:
    """Return what lets the agent write to a data directory of the operator's choice."""
    quoted = str(data_dir).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'# agent.data_dir is not the unit\'s own.\n[Service]\nReadWritePaths="{quoted}"\n'


def collectors_drop_in(collectors: Iterable[About]) -> str:
    """Return what these collectors need beyond the sandbox, empty when they need nothing."""
    needing = [about for about in collectors if about.privilege != Privilege()]
    if not needing:
        return ""
    return "\n".join([*_explanation(needing), "", "[Service]", *_grants(needing)]) + "\n"


def _explanation(needing: Iterable[About]) -> Iterator[str]:
    yield f"# What some collectors need beyond the sandbox of {NAME}.service. Put it into"
    yield f"# {COLLECTORS_DROP_IN}, then: systemctl daemon-reload && systemctl restart {NAME}"
    for about in needing:
        yield f"# {about.name}: without it, {about.privilege.without or 'it does not work'}"


def _grants(needing: Iterable[About]) -> Iterator[str]:
    privileges = [about.privilege for about in needing]
    capabilities = " ".join(sorted({name for each in privileges for name in each.capabilities}))
    groups = " ".join(sorted({name for each in privileges for name in each.groups}))
    if capabilities:
        yield f"CapabilityBoundingSet={capabilities}"
        yield f"AmbientCapabilities={capabilities}"
    if groups:
        yield f"SupplementaryGroups={groups}"
    for path in sorted({path for each in privileges for path in each.readable}):
        yield f"BindReadOnlyPaths=-{path}"  # also where the sandbox hides it; a host without it is fine


def _packaged(name: str) -> str:
    return (files("ct_ops_agent.service") / "units" / name).read_text(encoding="utf-8")

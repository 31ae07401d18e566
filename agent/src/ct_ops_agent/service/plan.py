"""What is to be done to install the agent: a pure decision about a host, a folder and what was asked for.

The order makes an installation that is cut short harmless. Between any two steps there is one agent that works,
the old one until the link is replaced and the new one from then on:

1. the new version's folder, beside the old one's; the user; the credential: nobody uses them yet
2. the link: the new program under the old unit and with the old configuration, both of which it understands
3. the configuration, which the old unit (root's) and the new one (the group's) can read
4. the unit and its drop-ins; then systemd is told, and the agent starts anew
5. versions that nobody needs any more go: the last one stays, for a way back

What is there and right already is not done again, except the restart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ct_ops_agent.secret import Secret
from ct_ops_agent.service import layout
from ct_ops_agent.service.build import Build, library_complaint
from ct_ops_agent.service.merging import Merged
from ct_ops_agent.service.steps import (
    CopyFolder,
    GiveFolder,
    Link,
    MakeFolder,
    MakeUser,
    Remove,
    Restart,
    Run,
    Step,
    WriteFile,
    WriteSecret,
)
from ct_ops_agent.service.survey import Facts
from ct_ops_agent.service.unit import (
    credential_place,
    data_drop_in,
    old_credential_drop_in,
    sysusers_text,
    unit_text,
)

_SPARE_BYTES = 32 * 1024 * 1024
_DIGITS_OF_DIGEST = 12


@dataclass(frozen=True)
class Data:
    """The data directory that the configuration leads to."""

    path: Path
    owner: str | None
    """Of the folder; ``None``: it is not there yet."""

    has_identity: bool


@dataclass(frozen=True)
class Wanted:
    """What is to be on the host."""

    folder: Path
    build: Build
    size_bytes: int
    digest: str
    """Of the folder's content."""

    same_as_installed: bool
    """The host has this version already, and it is the same to the byte."""

    merged: Merged
    token: Secret
    data: Data
    authority_pem: str = field(default="", repr=False)
    """To be put beside the configuration; empty: none."""


def complaints(facts: Facts, wanted: Wanted, *, image: bool) -> Iterator[str]:
    """Yield every reason why this host cannot have the agent, each with what to do."""
    if not facts.may_be_changed:
        yield "an installation changes the host: run it as root (sudo ./ct-ops-agent install …)"
    if not facts.has_systemd:
        yield (
            "systemd does not run here, and the agent is installed as its service; "
            "run it in the foreground instead (ct-ops-agent run), or give --root for an image"
        )
    if facts.installed.is_packaged:
        yield (
            "the agent of this host came as a package: upgrade it with the package manager, "
            "or remove that package first"
        )
    if complaint := library_complaint(wanted.build, facts.library):
        yield complaint
    needed = _SPARE_BYTES + (0 if wanted.same_as_installed else wanted.size_bytes)
    if facts.free_bytes < needed:
        yield (
            f"{layout.VERSIONS} has {_mib(facts.free_bytes)} MiB left and the installation needs {_mib(needed)} MiB; "
            "make room there"
        )
    if not wanted.token and not wanted.data.has_identity and not image:
        yield (
            "this host is not enrolled and there is no enrolment token: create one on the server "
            "(ct-ops-server token create) and give it by --token-file FILE, --token - or CT_OPS_ENROLMENT_TOKEN; "
            "or, where the server cannot be reached, type first: ct-ops-agent enrol --request FILE"
        )


def plan_installation(facts: Facts, wanted: Wanted, *, image: bool) -> tuple[Step, ...]:
    """Return what is to be done, in order."""
    version = layout.VERSIONS / name_for(facts, wanted)
    return (
        *_bring(facts, wanted, version),
        *_user(facts),
        *_secret(facts, wanted),
        Link(layout.PROGRAM, version / layout.NAME),
        *_configuration(wanted),
        *_service(facts, wanted, image=image),
        *_start(wanted, image=image),
        *_tidy(facts, version.name),
    )


def name_for(facts: Facts, wanted: Wanted) -> str:
    """Return the name of the version's folder on the host.

    Of two builds with one version the later one gets a name of its own: a folder in use is never replaced.
    """
    taken = wanted.build.version in facts.installed.versions and not wanted.same_as_installed
    return f"{wanted.build.version}-{wanted.digest[:_DIGITS_OF_DIGEST]}" if taken else wanted.build.version


def _bring(facts: Facts, wanted: Wanted, version: Path) -> Iterator[Step]:
    ours = facts.installed.user_is_ours or not facts.has_user
    versions = sorted({*facts.installed.recorded_versions, version.name})
    record = {"user": layout.USER if ours else None, "versions": versions}
    yield WriteFile(layout.RECORD, json.dumps(record, sort_keys=True) + "\n")
    if version.name not in facts.installed.versions:
        yield CopyFolder(wanted.folder, version)


def _user(facts: Facts) -> Iterator[Step]:
    yield WriteFile(layout.SYSUSERS, sysusers_text())
    if facts.has_user:
        return
    if facts.has_sysusers:
        yield MakeUser(("systemd-sysusers", layout.SYSUSERS.name), "--root")
    else:
        words = ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/")
        yield MakeUser((*words, "--shell", "/usr/sbin/nologin", layout.USER), "--prefix")


def _secret(facts: Facts, wanted: Wanted) -> Iterator[Step]:
    if wanted.token:
        place = credential_place(facts.systemd_version)
        yield WriteSecret(place, wanted.token, group=layout.USER if place == layout.OLD_CREDENTIAL else "")


def _configuration(wanted: Wanted) -> Iterator[Step]:
    if wanted.authority_pem:
        yield WriteFile(layout.AUTHORITY, wanted.authority_pem)
    yield WriteFile(layout.CONFIGURATION, wanted.merged.text, 0o640, layout.USER)


def _service(facts: Facts, wanted: Wanted, *, image: bool) -> Iterator[Step]:
    drop_ins = {
        layout.CREDENTIAL_DROP_IN: old_credential_drop_in()
        if credential_place(facts.systemd_version) == layout.OLD_CREDENTIAL
        else "",
        layout.DATA_DROP_IN: data_drop_in(wanted.data.path) if wanted.data.path != layout.DATA else "",
    }
    for path, text in drop_ins.items():
        if text:
            yield WriteFile(path, text)
        elif path.name in facts.installed.drop_ins:
            yield Remove(path, "not needed any more")
    yield WriteFile(layout.UNIT, unit_text())
    if image:
        yield Link(layout.WANTED, layout.UNIT)


def _start(wanted: Wanted, *, image: bool) -> Iterator[Step]:
    moves = wanted.data.owner not in {None, layout.USER}
    if not image:
        yield Run(("systemctl", "daemon-reload"))
        yield Run(("systemctl", "enable", layout.UNIT.name))
        if moves:  # what still runs as another user would go on making files that the new one cannot read
            yield Run(("systemctl", "stop", layout.UNIT.name))
    if moves:
        yield GiveFolder(wanted.data.path)
    elif wanted.data.owner is None and wanted.data.path != layout.DATA:
        yield MakeFolder(wanted.data.path)
    if not image:
        yield Restart()


def _tidy(facts: Facts, current: str) -> Iterator[Step]:
    kept = {current, facts.installed.current}
    for name in facts.installed.versions:
        if name not in kept:
            yield Remove(layout.VERSIONS / name, "an older version")


def _mib(count: int) -> int:
    return count // (1024 * 1024)

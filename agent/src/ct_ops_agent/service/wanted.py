"""What was asked for, made whole: files that the command line names are read, the configuration is merged and tried.

Nothing on the host is changed yet, and everything that can be wrong with the request is found here.

A file that the agent's user could not read is brought where it can: an agent that was root's may trust an authority
in a folder of root's.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli

from ct_ops_agent.config import parse
from ct_ops_agent.config.load import Flags, load_config
from ct_ops_agent.errors import ConfigError, Problem
from ct_ops_agent.secret import Secret
from ct_ops_agent.service import layout
from ct_ops_agent.service.build import content_digest, read_build
from ct_ops_agent.service.machine import Machine
from ct_ops_agent.service.merging import Demands, Merged, merge
from ct_ops_agent.service.plan import Data, Wanted
from ct_ops_agent.service.survey import (
    Facts,
    has_identity,
    is_readable_by_all,
    owner_of,
    same_content,
    size_of,
)

_LARGEST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Request:
    """What the command line says."""

    folder: Path
    """The unpacked agent."""

    demands: Demands = field(default_factory=Demands)
    offered: Path | None = None
    """A configuration that came with the agent."""

    authority: Path | None = None
    """A certificate file that came with it, to be copied."""

    token: Secret = field(default=Secret(""))


def complete(request: Request, facts: Facts, machine: Machine) -> Wanted:
    """Return what is to be on the host.

    Raises:
        InstallationError: the folder is no agent.
        ConfigError: the configuration could not work, with every problem.
    """
    build = read_build(request.folder)
    merged, authority = _configuration(request, facts, machine)
    token = request.token or merged.token
    _try_token(token)
    data_dir = _try(merged.text, authority)
    installed = build.version in facts.installed.versions
    return Wanted(
        folder=request.folder,
        build=build,
        size_bytes=size_of(request.folder),
        digest=content_digest(request.folder),
        same_as_installed=installed and same_content(machine, build.version, request.folder),
        merged=merged,
        token=token,
        data=Data(data_dir, owner_of(machine, data_dir), has_identity(machine, data_dir)),
        authority_pem=authority,
    )


def _configuration(request: Request, facts: Facts, machine: Machine) -> tuple[Merged, str]:
    """Return the merged configuration, and the authority that it will name beside itself."""
    offered = _read(request.offered, "--config") if request.offered else None
    merged = merge(facts.configuration, offered, request.demands)
    brought = request.authority or _authority_to_bring(merged.text, request, facts, machine)
    if brought is None:
        return merged, ""
    demands = replace(request.demands, ca_cert_file=str(layout.AUTHORITY))
    return merge(facts.configuration, offered, demands), _read(brought, "--ca-cert-file")


def _authority_to_bring(text: str, request: Request, facts: Facts, machine: Machine) -> Path | None:
    """Return the file of an authority that the service could not read where it is, ``None``: it can."""
    named = _ca_cert_file(tomli.loads(text))
    if not named or named == str(layout.AUTHORITY):
        return None
    came_with_it = request.offered is not None and named != _ca_cert_file(
        tomli.loads(facts.configuration or "")
    )
    if came_with_it and request.offered is not None:
        return (request.offered.parent / named).absolute()
    path = machine.at(layout.CONFIGURATION.parent / named)
    return None if is_readable_by_all(path) or not path.exists() else path


def _ca_cert_file(document: dict[str, Any]) -> str:
    table = document.get("ingest")
    found = table.get("ca_cert_file") if isinstance(table, dict) else None
    return found.strip() if isinstance(found, str) else ""


def _try(text: str, authority: str) -> Path:
    """Load a configuration as the service will, from a folder of its own; return its data directory."""
    with tempfile.TemporaryDirectory(prefix="ct-ops-install-") as folder:
        if authority:  # it is not at its place yet
            copy = Path(folder) / "authority.pem"
            copy.write_text(authority, encoding="utf-8")
            text = merge(text, None, Demands(ca_cert_file=str(copy))).text
        file = Path(folder) / layout.CONFIGURATION.name
        file.write_text(text, encoding="utf-8", newline="")
        return load_config(Flags(config_file=file), {}).config.data_dir


def _try_token(token: Secret) -> None:
    try:
        if token:
            parse.parse_enrolment_token(token.reveal())
    except ValueError as error:
        raise ConfigError([Problem("agent.enrolment_token", str(error))]) from None


def _read(path: Path, option: str) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read(_LARGEST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(option, f"cannot read {path}: {error}; correct the path")]) from error

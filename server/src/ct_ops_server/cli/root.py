"""The command ``ct-ops-server``; a subcommand is imported when it is named, and imports what it needs when it runs."""

from __future__ import annotations

import click

from ct_ops_proto.lazy_commands import LazyGroup

_COMMANDS = {
    "serve": "serve:serve",
    "config": "settings:config",
    "token": "tokens:token",
    "refusals": "tokens:refusals",
    "enrol": "enrol:enrol",
    "agent": "agents:agent",
    "clones": "clones:clones",
    "samples": "samples:samples",
    "check": "checks:check",
    "query": "queries:query",
    "task": "tasks:task",
    "packages": "queries:packages",
    "release": "releases:release",
    "bundle": "bundles:bundle",
    "ca": "authority:ca",
    "audit": "audit:audit",
    "database": "database:database",
    "db": "installation:db",
    "ready": "ready:ready",
}
"""Where each command is."""


@click.group(
    cls=LazyGroup,
    package="ct_ops_server.cli",
    places=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="ct-ops", prog_name="ct-ops-server")
def main() -> None:
    """CT-Ops server: enrols agents, receives their heartbeats.

    Settings come from the environment and /etc/ct-ops/server.env (the environment wins); see
    `ct-ops-server config show`. AGENT is an id, a unique prefix of one, or a unique hostname.

    Exit codes: 0 done, 1 failed, 2 usage, 69 unreachable, 77 refused, 78 configuration.
    """

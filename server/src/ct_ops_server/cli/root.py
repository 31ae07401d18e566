"""The command ``ct-ops-server``; a subcommand is imported when it is named, and imports what it needs when it runs."""

from __future__ import annotations

from importlib import import_module

import click

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


class _Commands(click.Group):
    """A group whose commands are imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"ct_ops_server.cli.{module}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ct-ops", prog_name="ct-ops-server")
def main() -> None:
    """CT-Ops server: enrols agents, receives their heartbeats.

    Settings come from the environment and /etc/ct-ops/server.env (the environment wins); see
    `ct-ops-server config show`. AGENT is an id, a unique prefix of one, or a unique hostname.

    Exit codes: 0 done, 1 failed, 2 usage, 69 unreachable, 77 refused, 78 configuration.
    """

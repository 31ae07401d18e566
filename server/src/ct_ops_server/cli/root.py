"""The command ``ct-ops-server``; its subcommands import what they need when they run."""

from __future__ import annotations

import click

from ct_ops_server import __version__
from ct_ops_server.cli.agents import agent
from ct_ops_server.cli.audit import audit
from ct_ops_server.cli.authority import ca
from ct_ops_server.cli.bundles import bundle
from ct_ops_server.cli.checks import check
from ct_ops_server.cli.clones import clones
from ct_ops_server.cli.database import database
from ct_ops_server.cli.enrol import enrol
from ct_ops_server.cli.installation import db
from ct_ops_server.cli.queries import packages, query
from ct_ops_server.cli.ready import ready
from ct_ops_server.cli.releases import release
from ct_ops_server.cli.samples import samples
from ct_ops_server.cli.serve import serve
from ct_ops_server.cli.settings import config
from ct_ops_server.cli.tasks import task
from ct_ops_server.cli.tokens import refusals, token


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ct-ops-server")
def main() -> None:
    """CT-Ops server: enrols agents, receives their heartbeats.

    Settings come from the environment and /etc/ct-ops/server.env (the environment wins); see
    `ct-ops-server config show`. AGENT is an id, a unique prefix of one, or a unique hostname.

    Exit codes: 0 done, 1 failed, 2 usage, 69 unreachable, 77 refused, 78 configuration.
    """


for command in (
    serve,
    config,
    token,
    refusals,
    enrol,
    agent,
    clones,
    samples,
    check,
    query,
    task,
    packages,
    release,
    bundle,
    ca,
    audit,
    database,
    db,
    ready,
):
    main.add_command(command)

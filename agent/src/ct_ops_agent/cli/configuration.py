"""The option ``-config``, which every command has, and the configuration it leads to.

Long options have one dash, as existing installations write them, and two, as everybody else does.
"""

from __future__ import annotations

from pathlib import Path

import click

from ct_ops_agent.cli.exits import errors_as_exits
from ct_ops_agent.config.load import Flags, load_config, read_environment
from ct_ops_agent.config.schema import DEFAULT_FILE, AgentConfig

config_option = click.option(
    "-config",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Configuration file.  [default: {DEFAULT_FILE}]",
)
json_option = click.option("-json", "--json", "as_json", is_flag=True, help="Print one JSON object.")


def load(flags: Flags) -> AgentConfig:
    """Return the configuration, or end the process with every problem there is."""
    with errors_as_exits():
        loaded = load_config(flags, read_environment())
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded.config

"""What a command's help looks like in a terminal."""

from __future__ import annotations

import click
import pytest

from ct_ops_agent.cli.root import main as agent
from ct_ops_loadtest.cli import main as load_tool
from ct_ops_server.cli.root import main as server
from reference_pages import helps

COMMANDS = [
    *helps(agent, "ct-ops-agent"),
    *helps(server, "ct-ops-server"),
    *helps(load_tool, "ct-ops-loadtest"),
]


@pytest.mark.parametrize(("path", "text"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_help_says_what_a_command_does_and_shows_no_mark_of_its_source(path: str, text: str) -> None:
    """A raw docstring leaves click's marks in the text."""
    usage, _, rest = text.partition("\n")

    assert usage.startswith("Usage: ")
    assert "\\b" not in text
    assert rest.strip()


@pytest.mark.parametrize("root", [agent, server, load_tool], ids=["agent", "server", "loadtest"])
def test_every_option_is_explained(root: click.Group) -> None:
    """Hidden ones are for existing installations."""
    unexplained = [
        f"{path} {option.opts[0]}"
        for path, command in commands(root, root.name or "")
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]

    assert [] == unexplained


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += commands(inner, f"{path} {name}")
    return found

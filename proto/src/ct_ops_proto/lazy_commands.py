"""A group of commands that are imported one by one: whoever runs one pays for none of the others."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named."""

    def __init__(self, *args: Any, package: str, places: Mapping[str, str], **attributes: Any) -> None:
        """Prepare.

        Args:
            args: of ``click.Group``.
            package: the one that the modules are in.
            places: where each command is, by its name: ``module:object``.
            attributes: of ``click.Group``.
        """
        super().__init__(*args, **attributes)
        self._package = package
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, without importing anything."""
        del ctx
        return sorted(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        del ctx
        if cmd_name not in self._places:
            return None
        module, _, name = self._places[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"{self._package}.{module}"), name)
        return command

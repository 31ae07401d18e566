"""``ct-ops-agent config``: write a sample, find every mistake, show what is in effect."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from ct_ops_agent.cli.configuration import config_option, json_option
from ct_ops_agent.cli.exits import Exit, errors_as_exits
from ct_ops_agent.cli.tables import table
from ct_ops_agent.config.load import Flags, Loaded, load_config, read_environment
from ct_ops_agent.config.schema import DEFAULT_FILE


@click.group()
def config() -> None:
    """Write a sample of the configuration, check it, show what is in effect."""


@config.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="Where to.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--stdout", is_flag=True, help="Print it instead.")
def create(*, output: Path, force: bool, stdout: bool) -> None:
    """Write a sample: every key with its meaning and its default, commented out."""
    from ct_ops_agent.config.sample import sample_toml  # noqa: PLC0415 - loads every collector

    text = sample_toml()
    if stdout:
        click.echo(text, nl=False)
        return
    try:
        write_new(output, text, replace=force)
    except FileExistsError as error:
        raise click.UsageError(
            f"{output} is there already; --force replaces it, -o writes elsewhere"
        ) from error
    except OSError as error:
        click.echo(f"error: {output} cannot be written: {error.strerror}", err=True)
        raise click.exceptions.Exit(Exit.FAILED) from error
    click.echo(f"wrote {output}; change it, then: ct-ops-agent config check -config {output}")


@config.command()
@config_option
def check(*, config_file: Path | None) -> None:
    """Tell every mistake of the configuration at once."""
    loaded = _load(config_file)
    running = ", ".join(plan.name for plan in loaded.config.collectors.plans)
    click.echo(f"{config_file or DEFAULT_FILE} can work; collectors: {running or 'none'}")


@config.command()
@config_option
@json_option
def show(*, config_file: Path | None, as_json: bool) -> None:
    """Show what is in effect, and where each value comes from. Secrets are not shown."""
    loaded = _load(config_file)
    if as_json:
        rows = [{"key": key, "value": value, "from": origin} for key, value, origin in loaded.effective]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        click.echo(table([("KEY", "VALUE", "FROM"), *loaded.effective]))


def write_new(path: Path, text: str, *, replace: bool) -> None:
    """Write a file that its owner may write and everybody read, whole or not at all.

    Raises:
        FileExistsError: it is there, and may not be replaced.
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, a link never replaces
    finally:
        temporary.unlink(missing_ok=True)


def _load(config_file: Path | None) -> Loaded:
    with errors_as_exits():
        loaded = load_config(Flags(config_file=config_file), read_environment())
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded

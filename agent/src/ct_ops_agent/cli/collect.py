"""``ct-ops-agent collect`` and ``collectors``: what would be gathered on this host, seen by hand.

Runs collectors in this process, under their deadlines, without a server and without the daemon's outbox. Rates
need two looks, so everything is looked at twice, a second apart.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ct_ops_agent.cli.configuration import config_option, json_option, load
from ct_ops_agent.cli.exits import Exit
from ct_ops_agent.cli.tables import table
from ct_ops_agent.config.load import Flags

if TYPE_CHECKING:
    from ct_ops_agent.catalog import Catalog
    from ct_ops_agent.collector import AnyCollector
    from ct_ops_agent.config.schema import AgentConfig
    from ct_ops_agent.gathering.course import Plan
    from ct_ops_agent.samples import CollectorState, TimedSample

_PAUSE_S = 1.0


@dataclass(frozen=True)
class Gathered:
    """What one look has brought."""

    samples: Sequence[TimedSample]
    states: Sequence[CollectorState]
    missing: Mapping[str, str]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME …]")
@config_option
@json_option
@click.option("--prometheus", is_flag=True, help="Print the text format of Prometheus.")
def collect(*, names: tuple[str, ...], config_file: Path | None, as_json: bool, prometheus: bool) -> None:
    """Run collectors once and print what they yield; without NAME all that are on."""
    config = load(Flags(config_file=config_file))
    gathered = asyncio.run(gather_twice(chosen_plans(config, names)))
    if as_json:
        click.echo(json.dumps(as_document(gathered), indent=2, ensure_ascii=False))
    elif prometheus:
        click.echo(as_prometheus(gathered.samples), nl=False)
    else:
        click.echo(as_text(gathered))
    problems = [state for state in gathered.states if state.problem]
    for state in problems:
        click.echo(f"{state.name}: {state.problem}", err=True)
    sys.exit(Exit.FAILED if problems else 0)


@click.group()
def collectors() -> None:
    """Show which collectors there are, and what each reads, costs and needs."""


@collectors.command("list")
@config_option
@json_option
def list_(*, config_file: Path | None, as_json: bool) -> None:
    """List every collector, and whether it runs here."""
    config = load(Flags(config_file=config_file))
    rows = known_collectors(config)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    lines = [("NAME", "RUNS", "INTERVAL", "WHAT IT TELLS")]
    lines += [
        (row["name"], "yes" if row["runs"] else "no", row["interval"] or "-", row["summary"]) for row in rows
    ]
    click.echo(table(lines))


@collectors.command()
@click.argument("name")
@config_option
@json_option
def show(*, name: str, config_file: Path | None, as_json: bool) -> None:
    """Show everything about one collector."""
    from ct_ops_agent.config.collector_pages import document_of, page_of  # noqa: PLC0415 - loads what only these commands need

    config = load(Flags(config_file=config_file))
    catalog = catalog_of(config)
    if name not in catalog.names:
        raise click.UsageError(unknown_name(name, catalog.names))
    kind = load_kind(catalog, name)
    click.echo(json.dumps(document_of(kind), indent=2) if as_json else page_of(kind))


def chosen_plans(config: AgentConfig, names: Iterable[str]) -> list[Plan]:
    """Return what is to run: the named ones, also when they are off, else all that are on."""
    from ct_ops_agent.gathering.course import Plan  # noqa: PLC0415 - loads what only these commands need

    if not (wanted := list(dict.fromkeys(names))):
        return list(config.collectors.plans)
    plans = {plan.name: plan for plan in (*config.collectors.plans, *config.collectors.off)}
    catalog = catalog_of(config)
    for name in wanted:
        if name not in plans and name not in catalog.names:
            raise click.UsageError(unknown_name(name, {*catalog.names, *plans}))
    for name in wanted:
        if name not in plans:
            kind = load_kind(catalog, name)
            seconds = (kind.about.interval.total_seconds(), kind.about.timeout.total_seconds())
            plans[name] = Plan(name, lambda kind=kind: kind(kind.settings_type()), *seconds)  # type: ignore[misc]  # the default binds it
    return [plans[name] for name in wanted]


async def gather_twice(plans: Sequence[Plan]) -> Gathered:
    """Run each collector, wait a moment, and run each again: rates need two looks."""
    from ct_ops_agent.clock import SYSTEM_CLOCK  # noqa: PLC0415 - loads what only these commands need
    from ct_ops_agent.gathering.gatherer import Gatherer  # noqa: PLC0415

    sink = _Latest()
    gatherer = Gatherer(plans, sink=sink, clock=SYSTEM_CLOCK, random=lambda: 0.0)
    await gatherer.once()
    await SYSTEM_CLOCK.sleep(_PAUSE_S)
    await gatherer.once()
    return Gathered(
        sorted(sink.samples.values(), key=lambda one: one.series), gatherer.states(), gatherer.missing()
    )


class _Latest:
    """Keeps the newest sample of each series (`samples.TakesSamples`)."""

    def __init__(self) -> None:
        self.samples: dict[str, TimedSample] = {}

    async def put_samples(self, samples: Sequence[TimedSample]) -> None:
        """Keep them."""
        self.samples |= {sample.series: sample for sample in samples}


def known_collectors(config: AgentConfig) -> list[dict[str, Any]]:
    """Return every collector that has a name here, and whether it runs."""
    from ct_ops_agent.catalog import CatalogError  # noqa: PLC0415 - loads what only these commands need
    from ct_ops_agent.config.durations import spell_seconds  # noqa: PLC0415

    plans = {plan.name: plan for plan in config.collectors.plans}
    catalog = catalog_of(config)
    rows = []
    for name in sorted({*catalog.names, *plans}):
        try:
            about = catalog.load(name).about if name in catalog.names else None
            summary = about.summary if about else "a program of this host's configuration"
            interval = (
                plans[name].interval_s if name in plans else about.interval.total_seconds() if about else 0
            )
        except CatalogError as error:
            summary, interval = str(error), 0
        rows.append(
            {
                "name": name,
                "runs": name in plans,
                "interval": spell_seconds(interval) if interval else "",
                "summary": summary,
            }
        )
    return rows


def load_kind(catalog: Catalog, name: str) -> type[AnyCollector]:
    """Return a collector's class, or end with what is wrong with it."""
    from ct_ops_agent.catalog import CatalogError  # noqa: PLC0415 - loads what only these commands need

    try:
        return catalog.load(name)
    except CatalogError as error:
        raise click.ClickException(str(error)) from error


def catalog_of(config: AgentConfig) -> Catalog:
    """Return the catalogue of this configuration."""
    from ct_ops_agent.catalog import Catalog  # noqa: PLC0415 - loads what only these commands need

    return Catalog(config.collectors.allowed)


def unknown_name(name: str, known: Iterable[str]) -> str:
    """Return what to do about a name that no collector has."""
    from ct_ops_agent.config.problems import unknown_key_text  # noqa: PLC0415 - for a typo only

    return f"{name}: {unknown_key_text(name, known).replace('key', 'collector').replace('Correct or remove it', 'See: ct-ops-agent collectors list')}"


def as_text(gathered: Gathered) -> str:
    """Return the samples for people: one a line, then what could not be had."""
    rows = [(sample.series, _number(sample.value), sample.unit) for sample in gathered.samples]
    lines = [table(rows, align_right={1})] if rows else ["nothing was yielded"]
    lines += [f"{name} does without {text}" for name, text in sorted(gathered.missing.items())]
    return "\n".join(lines)


def as_document(gathered: Gathered) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "samples": [
            {"series": one.series, "value": one.value, "unit": one.unit, "at": one.at_ms / 1000}
            for one in gathered.samples
        ],
        "problems": {state.name: state.problem for state in gathered.states if state.problem},
        "missing": dict(gathered.missing),
    }


def as_prometheus(samples: Iterable[TimedSample]) -> str:
    """Return the text format of Prometheus: dots become underscores, everything else is the same."""
    return "".join(f"{_prometheus_name(one.series)} {one.value:.17g}\n" for one in samples)


def _prometheus_name(series: str) -> str:
    name, brace, labels = series.partition("{")
    return f"ct_ops_{name.replace('.', '_')}{brace}{labels}"


def _number(value: float) -> str:
    if value == math.floor(value) and abs(value) < 1e15:
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.3g}"

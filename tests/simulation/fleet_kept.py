"""Histories that failed once, kept as what happened in them: files in ``histories/``, tried for ever.

A seed alone would not do: whoever adds a kind of event, or makes one more frequent, gives every seed another history.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulation.fleet_events import Event
from simulation.fleet_history import Outcome
from simulation.fleet_world import Size

FOLDER = Path(__file__).with_name("histories")


@dataclass(frozen=True)
class Kept:
    """A history, and what it found."""

    found: str
    seed: int
    """Of everything but the events: names, keys, chance on hosts and networks."""
    size: Size
    events: tuple[Event, ...]

    def __str__(self) -> str:
        numbers = f"seed = {self.seed}\nhosts = {self.size.hosts}\ndays = {self.size.days:g}\n"
        interval = f"interval_days = {self.size.interval_days:g}\n"
        events = "".join(f'    [{event.day!r}, "{event.kind}", {event.dice}],\n' for event in self.events)
        return f'found = "{self.found}"\n{numbers}{interval}events = [\n{events}]\n'


def parse(text: str) -> Kept:
    """Return what a file tells."""
    told = tomllib.loads(text)
    events = tuple(Event(float(day), kind, dice) for day, kind, dice in told["events"])
    size = Size(told["hosts"], told["days"], told["interval_days"], len(events))
    return Kept(told["found"], told["seed"], size, events)


def kept_histories() -> Sequence[tuple[str, Kept]]:
    """Return all that are kept, with the names of their files."""
    return [(file.stem, parse(file.read_text())) for file in sorted(FOLDER.glob("*.toml"))]


def keep(outcome: Outcome) -> Path:
    """Write a history that failed to where the suite finds it; return the file."""
    FOLDER.mkdir(exist_ok=True)
    size = outcome.size
    file = FOLDER / f"seed-{outcome.seed}-{size.hosts}-hosts-{size.days:g}-days.toml"
    file.write_text(str(Kept("say in a line what this found", outcome.seed, size, outcome.events)))
    return file

"""``make simulate SEEDS=1000``: live many histories of a fleet; docs/simulation.md names the other variables.

A seed that fails is printed with the shortest list of events that still goes wrong, and kept as a file in
``histories/``, which the suite tries for ever.
"""

from __future__ import annotations

import argparse
import sys
import time

from simulation.fleet_events import KINDS, plan
from simulation.fleet_history import live, shortest
from simulation.fleet_kept import keep
from simulation.fleet_world import Size

SMALL = Size(hosts=2, days=200, interval_days=15, events=10)


def say(what: object) -> None:
    """Print at once."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> int:
    """Live histories; return how many failed, as an exit status."""
    asked = _arguments().parse_args()
    size = Size(asked.hosts, asked.days, asked.interval, asked.events)
    failed, heartbeats, began_s = 0, 0, time.monotonic()
    for seed in range(asked.seed, asked.seed + asked.seeds):
        outcome = live(seed, size, plan(seed, size, asked.kinds))
        heartbeats += outcome.heartbeats
        if outcome.failed:
            failed += 1
            found = shortest(outcome)
            say(found)
            say(f"kept as {keep(found).name}: say there what it found\n")
    say(
        f"{asked.seeds} histories of {size.hosts} hosts and {size.days:g} days, {heartbeats} heartbeats, "
        f"{time.monotonic() - began_s:.0f} s: {failed} failed"
    )
    return 1 if failed else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Live many histories of a simulated fleet.")
    parser.add_argument("--seeds", type=int, default=100, help="how many histories")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--hosts", type=int, default=SMALL.hosts, help="honest hosts in each")
    parser.add_argument("--days", type=float, default=SMALL.days, help="days that each lasts")
    parser.add_argument("--interval", type=float, default=SMALL.interval_days, help="days between heartbeats")
    parser.add_argument("--events", type=int, default=SMALL.events, help="things that happen in each")
    parser.add_argument(
        "--kinds",
        type=kinds_of,
        default=(),
        metavar="KIND,KIND…",
        help=f"only these kinds of events; else the dice choose. There are: {', '.join(sorted(KINDS))}",
    )
    return parser


def kinds_of(text: str) -> tuple[str, ...]:
    """Return the kinds of events that a list names, or all of them for ``all``."""
    named = tuple(sorted(KINDS) if text == "all" else filter(None, map(str.strip, text.split(","))))
    if unknown := sorted(set(named) - set(KINDS)):
        there_are = ", ".join(sorted(KINDS))
        raise argparse.ArgumentTypeError(f"there is no kind {', '.join(unknown)!r}; there are: {there_are}")
    return named


if __name__ == "__main__":
    sys.exit(main())

"""systemd units: how many are in which state, and which have failed.

Asked with ``systemctl``, whose output for programs has been stable for ten years, and not over D-Bus: that
would be another library in a daemon of the whole fleet, for one question every few minutes. `read_units` also
answers the query ``list_services``.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.collector import (
    About,
    Collector,
    CollectorError,
    Missing,
    Reading,
    Sample,
    SampleDoc,
    Settings,
)

_TIMEOUT_S = 10.0
_MOST_FAILED = 50
_ACTIVE_STATES = ("active", "activating", "deactivating", "failed", "inactive", "reloading")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that systemd has loaded."""

    name: str
    load_state: str
    active_state: str
    sub_state: str

    @property
    def active_sub(self) -> str:
        """Return both states as systemd writes them, ``active/running``."""
        return f"{self.active_state}/{self.sub_state}"


def parse_units(text: str) -> list[Unit]:
    """Return the lines of ``systemctl list-units --plain --no-legend``."""
    lines = (line.removeprefix("●").split(None, 4) for line in text.split("\n"))
    return [Unit(*words[:4]) for words in lines if len(words) >= 4]


def read_units(kind: str = "", run: Callable[[list[str]], str] | None = None) -> list[Unit]:
    """Return the units that systemd has loaded.

    Args:
        kind: ``service``, ``timer`` …; empty: all.
        run: runs a command and returns its output.

    Raises:
        CollectorError: there is no systemd here, or it does not answer.
    """
    command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "--full"]
    return parse_units((run or run_systemctl)([*command, *([f"--type={kind}"] if kind else [])]))


def run_systemctl(command: list[str]) -> str:
    """Return what systemctl prints.

    Raises:
        CollectorError: it is not there, or does not answer.
    """
    try:
        done = subprocess.run(  # noqa: S603  a command of our own
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
            check=False,
        )
    except FileNotFoundError:
        raise CollectorError("there is no systemctl: this host is not run by systemd") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CollectorError(f"systemctl does not answer: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().split("\n")
        raise CollectorError(f"systemctl failed: {said[-1] or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


class Systemd(Collector[Settings]):
    """Collector ``systemd``."""

    about = About(
        name="systemd",
        summary="States of systemd's units, and the failed ones by name.",
        reads="`systemctl list-units`",
        cost="a process of about 15 ms a run",
        interval=timedelta(minutes=5),
        samples=(
            SampleDoc("systemd.units", "", "loaded units in a state", labels=("state",)),
            SampleDoc("systemd.failed", "", "1 for each unit that has failed", labels=("unit",)),
            SampleDoc("systemd.failed_units", "", "how many have failed"),
        ),
    )

    def __init__(
        self,
        settings: Settings,
        run: Callable[[list[str]], str] = run_systemctl,
        booted: Path = Path("/run/systemd/system"),
    ) -> None:
        """Prepare.

        Args:
            settings: none of its own.
            run: runs a command and returns its output.
            booted: is there when the host is run by systemd (sd_booted(3)).
        """
        super().__init__(settings)
        self._run = run
        self._booted = booted

    def collect(self) -> Iterator[Reading]:
        """Ask systemd for its units."""
        if not self._booted.exists():
            yield Missing("units", "this host is not run by systemd")
            return
        units = read_units(run=self._run)
        states = Counter(unit.active_state for unit in units)
        for state in sorted({*_ACTIVE_STATES, *states}):
            yield Sample("systemd.units", states[state], "", {"state": state})
        failed = sorted(unit.name for unit in units if unit.active_state == "failed")
        yield Sample("systemd.failed_units", len(failed))
        for name in failed[:_MOST_FAILED]:
            yield Sample("systemd.failed", 1, "", {"unit": name})

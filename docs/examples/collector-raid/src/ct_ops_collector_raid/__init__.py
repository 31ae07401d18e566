"""Linux software RAID: how many disks of each array work, from ``/proc/mdstat``.

The whole of a collector: what it says of itself, its keys, a parser that needs no machine, and `collect`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from msgspec import Meta

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

_ARRAY = re.compile(r"^(?P<name>md\w+) : (?P<state>\w+)", re.MULTILINE)
_DISKS = re.compile(r"\[(?P<wanted>\d+)/(?P<working>\d+)\]")


def parse_mdstat(text: str) -> dict[str, tuple[int, int]]:
    """Return for each array how many disks it wants and how many work."""
    found = {}
    for array in _ARRAY.finditer(text):
        disks = _DISKS.search(text, array.end())
        if disks is not None:
            found[array["name"]] = (int(disks["wanted"]), int(disks["working"]))
    return found


class RaidSettings(Settings, frozen=True):
    """Keys of ``[collectors.raid]``."""

    mdstat: Annotated[str, Meta(description="The kernel's file.")] = "/proc/mdstat"


class Raid(Collector[RaidSettings]):
    """Collector ``raid``."""

    about = About(
        name="raid",
        summary="Disks of Linux software RAID.",
        reads="`/proc/mdstat`",
        cost="0.1 ms a run",
        interval=timedelta(minutes=5),
        samples=(
            SampleDoc("raid.disks_wanted", "", "disks that the array is made of", labels=("array",)),
            SampleDoc(
                "raid.disks_working", "", "of them in use; fewer than wanted: replace one", labels=("array",)
            ),
        ),
    )
    settings_type = RaidSettings

    def collect(self) -> Iterator[Reading]:
        """Read the kernel's file."""
        try:
            arrays = parse_mdstat(Path(self.settings.mdstat).read_text())
        except FileNotFoundError:
            yield Missing("arrays", "this kernel has no software RAID")
            return
        except OSError as error:
            raise CollectorError(f"{self.settings.mdstat} cannot be read: {error.strerror}") from error
        for array, (wanted, working) in sorted(arrays.items()):
            yield Sample("raid.disks_wanted", wanted, "", {"array": array})
            yield Sample("raid.disks_working", working, "", {"array": array})

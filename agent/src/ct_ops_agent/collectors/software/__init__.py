"""Software: which packages the host's package manager has installed.

The collector only counts; `read_packages` yields them all, for the task ``software_inventory``. The first
manager that has a database here is *the* manager of this host: dpkg, rpm, pacman or apk.

* ``databases``  the text databases of dpkg, pacman and apk
* ``rpm``        rpm's database, asked through ``rpm``
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from ct_ops_agent.collectors.software.databases import read_apk, read_dpkg, read_pacman
from ct_ops_agent.collectors.software.model import Packages
from ct_ops_agent.collectors.software.rpm import read_rpm

__all__ = ["Packages", "Software", "read_packages"]

_ROOT = Path("/")
_NONE = "this host has none of the package managers dpkg, rpm, pacman and apk"


def read_packages(root: Path = _ROOT) -> Packages:
    """Return everything that is installed. Takes up to a few seconds.

    Args:
        root: the folder that the databases are below.

    Raises:
        CollectorError: there is no package manager that we know, or its database cannot be read.
    """
    found = find_packages(root)
    if found is None:
        raise CollectorError(_NONE)
    return found


def find_packages(root: Path = _ROOT) -> Packages | None:
    """Return everything that is installed, None where none of the managers is.

    Raises:
        CollectorError: the database of one cannot be read.
    """
    readers = (read_dpkg, read_pacman, read_apk, read_rpm)
    return next((found for read in readers if (found := read(root)) is not None), None)


class Software(Collector[Settings]):
    """Collector ``software``."""

    about = About(
        name="software",
        summary="How many packages are installed.",
        reads="the database of dpkg, pacman or apk; `rpm -qa` on hosts of rpm",
        cost="20 to 100 ms a run; a process of seconds on hosts of rpm",
        interval=timedelta(hours=6),
        timeout=timedelta(seconds=120),
        samples=(
            SampleDoc(
                "software.packages",
                "",
                "installed packages; of dpkg also those that wait to be configured, not half-installed ones",
                labels=("source",),
            ),
        ),
    )

    def __init__(self, settings: Settings, read: Callable[[], Packages | None] = find_packages) -> None:
        """Prepare; ``read`` returns everything that is installed, None where no manager is."""
        super().__init__(settings)
        self._read = read

    def collect(self) -> Iterator[Reading]:
        """Count the packages."""
        found = self._read()
        if found is None:
            yield Missing("packages", _NONE)
            return
        yield Sample("software.packages", len(found.packages), "", {"source": found.source})

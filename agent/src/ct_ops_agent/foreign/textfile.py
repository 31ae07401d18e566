"""A folder of ``*.prom`` files that others write: cron jobs, backup scripts, monitoring of the firmware.

Writers put a whole file in place (write ``name.prom.tmp``, then rename): a file that is half written is read
as it is, and its torn line is said. A file that nobody has written for too long is said as well, and its
samples are left out: yesterday's "all is well" would be a lie.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from ct_ops_agent.collector import (
    About,
    Collector,
    CollectorError,
    Missing,
    Privilege,
    Reading,
    Sample,
    SampleDoc,
    Settings,
)
from ct_ops_agent.foreign.prometheus_text import read_prometheus_text

_LARGEST_BYTES = 1_048_576


class TextFileSettings(Settings, frozen=True):
    """Keys of ``[collectors.textfile]``."""

    directory: Annotated[str, Meta(description="The folder; files in it that end with .prom are read.")] = (
        "/var/lib/ct-ops/textfile"
    )
    stale_after_secs: Annotated[
        int, Meta(ge=1, description="A file that is older than this is left out and said.")
    ] = 86_400


class TextFiles(Collector[TextFileSettings]):
    """Collector ``textfile``."""

    about = About(
        name="textfile",
        summary="Samples that other programs leave in a folder, in the text format of Prometheus.",
        reads="every `*.prom` file of one folder, at most 1 MiB each",
        cost="a file read each",
        interval=timedelta(seconds=60),
        samples=(
            SampleDoc("textfile.file_age_seconds", "s", "since the file was written", labels=("file",)),
            SampleDoc("textfile.…", "", "whatever the files say, by the names in them"),
        ),
        on_by_default=False,
        privilege=Privilege(without="files that the user ct-ops may not read are left out"),
    )
    settings_type = TextFileSettings

    def __init__(self, settings: TextFileSettings, wall: Callable[[], float] = time.time) -> None:
        """Prepare; ``wall`` is this host's clock, seconds since 1970."""
        super().__init__(settings)
        self._wall = wall

    def collect(self) -> Iterator[Reading]:
        """Read every file of the folder."""
        try:
            files = sorted(Path(self.settings.directory).glob("*.prom"))
        except OSError as error:
            raise CollectorError(f"{self.settings.directory} cannot be read: {error.strerror}") from error
        if not files and not Path(self.settings.directory).is_dir():
            raise CollectorError(
                f"there is no folder {self.settings.directory}; make it, or name another one"
            )
        for file in files:
            yield from self._read(file)

    def _read(self, file: Path) -> Iterator[Reading]:
        try:
            content, written_unix = read_regular(file)
        except OSError as error:
            yield Missing(file.name, f"cannot be read: {error.strerror}")
            return
        age_s = max(self._wall() - written_unix, 0.0)
        yield Sample("textfile.file_age_seconds", age_s, "s", {"file": file.name})
        if age_s > self.settings.stale_after_secs:
            yield Missing(
                file.name, f"nobody has written it for {age_s / 3600:.0f} h; its samples are left out"
            )
        elif len(content) > _LARGEST_BYTES:
            yield Missing(file.name, f"is longer than {_LARGEST_BYTES} bytes; it is left out")
        else:
            yield from _named(file.name, read_prometheus_text("textfile", content.decode(errors="replace")))


def read_regular(path: Path) -> tuple[bytes, float]:
    """Return the first bytes of a regular file and when it was written.

    Whoever may write to the folder must not lead the agent to a file that only it may read (a link), nor let it
    wait for ever (a pipe).

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read(_LARGEST_BYTES + 1), status.st_mtime


def _named(file: str, readings: Iterator[Reading]) -> Iterator[Reading]:
    """Say of what could not be read in which file it stands."""
    for reading in readings:
        yield Missing(f"{file} {reading.what}", reading.why) if isinstance(reading, Missing) else reading

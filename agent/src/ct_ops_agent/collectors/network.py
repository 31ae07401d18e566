"""Network I/O: what each interface received and sent a second since the run before, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

from msgspec import Meta, field

from ct_ops_agent.collector import (
    About,
    Collector,
    CollectorError,
    Rates,
    Reading,
    Sample,
    SampleDoc,
    Settings,
)

_COLUMNS = {
    "receive_bytes_per_second": (0, "bytes/s"),
    "receive_packets_per_second": (1, "1/s"),
    "receive_errors_per_second": (2, "1/s"),
    "receive_drops_per_second": (3, "1/s"),
    "transmit_bytes_per_second": (8, "bytes/s"),
    "transmit_packets_per_second": (9, "1/s"),
    "transmit_errors_per_second": (10, "1/s"),
    "transmit_drops_per_second": (11, "1/s"),
}


def parse_net_dev(text: str) -> dict[str, list[int]]:
    """Return the counters of ``/proc/net/dev`` by interface."""
    found = {}
    for line in text.split("\n"):
        name, colon, rest = line.rpartition(":")
        words = rest.split()
        if colon and len(words) >= 12 and all(word.isdecimal() for word in words):
            found[name.strip()] = [int(word) for word in words]
    return found


class NetworkSettings(Settings, frozen=True):
    """Keys of ``[collectors.network]``."""

    ignore: Annotated[
        list[str], Meta(description="Interfaces to leave out, with * and ?. Those of containers come and go.")
    ] = field(default_factory=lambda: ["lo", "veth*", "cali*", "cni*", "br-*", "docker*", "virbr*", "tap*"])


class Network(Collector[NetworkSettings]):
    """Collector ``network``."""

    about = About(
        name="network",
        summary="What each network interface receives and sends a second.",
        reads="`/proc/net/dev`",
        cost="0.2 ms a run",
        interval=timedelta(seconds=60),
        samples=tuple(
            SampleDoc(f"network.{name}", unit, name.rpartition("_per_")[0].replace("_", ", "), ("interface",))
            for name, (_, unit) in _COLUMNS.items()
        ),
    )
    settings_type = NetworkSettings

    def __init__(
        self,
        settings: NetworkSettings,
        net_dev: Path = Path("/proc/net/dev"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            settings: its keys.
            net_dev: the kernel's file.
            monotonic: seconds of a clock that never goes back.
        """
        super().__init__(settings)
        self._net_dev = net_dev
        self._monotonic = monotonic
        self._rates = Rates()

    def collect(self) -> Iterator[Reading]:
        """Compare the counters with those of the run before; the first run has nothing to compare."""
        try:
            found = parse_net_dev(self._net_dev.read_text(errors="replace"))
        except OSError as error:
            raise CollectorError(f"{self._net_dev} cannot be read: {error.strerror}") from error
        now_s = self._monotonic()
        for interface, counters in sorted(found.items()):
            if any(fnmatch(interface, pattern) for pattern in self.settings.ignore):
                continue
            for name, (column, unit) in _COLUMNS.items():
                rate = self._rates.per_second(f"{interface} {name}", counters[column], now_s)
                if rate is not None:
                    yield Sample(f"network.{name}", rate, unit, {"interface": interface})
        self._rates.end_of_run()

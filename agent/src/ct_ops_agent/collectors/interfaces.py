"""Interfaces: which are up, how fast they are, and how often their cable was pulled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

from msgspec import Meta, field

from ct_ops_agent.collector import About, Collector, CollectorError, Reading, Sample, SampleDoc, Settings


class InterfacesSettings(Settings, frozen=True):
    """Keys of ``[collectors.interfaces]``."""

    ignore: Annotated[
        list[str], Meta(description="Interfaces to leave out, with * and ?. Those of containers come and go.")
    ] = field(default_factory=lambda: ["lo", "veth*", "cali*", "cni*", "br-*", "docker*", "virbr*", "tap*"])


class Interfaces(Collector[InterfacesSettings]):
    """Collector ``interfaces``."""

    about = About(
        name="interfaces",
        summary="State and speed of the network interfaces.",
        reads="`/sys/class/net`",
        cost="0.2 ms a run, and 0.1 ms for each interface",
        interval=timedelta(minutes=5),
        samples=(
            SampleDoc("interfaces.count", "", "how many are told"),
            SampleDoc("interfaces.up", "", "1: it carries traffic, 0: it does not", labels=("interface",)),
            SampleDoc("interfaces.mtu_bytes", "bytes", "longest packet", labels=("interface",)),
            SampleDoc(
                "interfaces.speed_bits_per_second", "bits/s", "of the link, where it has one", ("interface",)
            ),
            SampleDoc(
                "interfaces.carrier_changes", "", "times the link came or went since boot", ("interface",)
            ),
        ),
    )
    settings_type = InterfacesSettings

    def __init__(self, settings: InterfacesSettings, folder: Path = Path("/sys/class/net")) -> None:
        """Prepare; ``folder`` lists the interfaces."""
        super().__init__(settings)
        self._folder = folder

    def collect(self) -> Iterator[Reading]:
        """Look at every interface."""
        try:
            names = sorted(entry.name for entry in self._folder.iterdir() if entry.is_dir())
        except OSError as error:
            raise CollectorError(
                f"{self._folder} cannot be read: {error.strerror}; is /sys hidden from the agent?"
            ) from error
        told = [name for name in names if not any(fnmatch(name, pattern) for pattern in self.settings.ignore)]
        yield Sample("interfaces.count", len(told))
        for name in told:
            yield from self._of_interface(name)

    def _of_interface(self, name: str) -> Iterator[Reading]:
        labels = {"interface": name}
        # "unknown" is what interfaces say that have no notion of a link, such as tunnels: they carry traffic.
        state = self._text(name, "operstate")
        yield Sample("interfaces.up", float(state in {"up", "unknown"}), "", labels)
        for attribute, sample, unit, factor in (
            ("mtu", "mtu_bytes", "bytes", 1),
            ("speed", "speed_bits_per_second", "bits/s", 1_000_000),
            ("carrier_changes", "carrier_changes", "", 1),
        ):
            text = self._text(name, attribute)
            if text.isdecimal():  # speed is -1, or cannot be read, while there is no link
                yield Sample(f"interfaces.{sample}", int(text) * factor, unit, labels)

    def _text(self, name: str, attribute: str) -> str:
        try:
            return (self._folder / name / attribute).read_text().strip()
        except OSError:
            return ""

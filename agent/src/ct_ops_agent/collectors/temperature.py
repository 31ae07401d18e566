"""Temperature sensors: what the hardware monitors say, in degrees Celsius."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.collector import About, Collector, Reading, Sample, SampleDoc, Settings

_MILLI = 1000.0
_SANE = (-100.0, 300.0)
"""Sensors that are not connected say -273 or 65261."""


class Temperature(Collector[Settings]):
    """Collector ``temperature``."""

    about = About(
        name="temperature",
        summary="Temperatures of processors, disks and boards; virtual machines have none.",
        reads="`/sys/class/hwmon/hwmon*/temp*_input`",
        cost="0.2 ms a run, and 0.1 ms for each sensor",
        interval=timedelta(minutes=2),
        samples=(
            SampleDoc("temperature.celsius", "celsius", "now", labels=("chip", "sensor")),
            SampleDoc(
                "temperature.critical_celsius", "celsius", "where it becomes critical", ("chip", "sensor")
            ),
            SampleDoc("temperature.sensors", "", "how many are told; 0: this host has none"),
        ),
    )

    def __init__(self, settings: Settings, folder: Path = Path("/sys/class/hwmon")) -> None:
        """Prepare; ``folder`` lists the chips."""
        super().__init__(settings)
        self._folder = folder

    def collect(self) -> Iterator[Reading]:
        """Read every sensor."""
        told: set[tuple[str, str]] = set()
        for sensor in sorted(self._folder.glob("hwmon*/temp*_input")):
            value = _degrees(sensor)
            labels = _labels(sensor)
            key = (labels["chip"], labels["sensor"])
            if value is None or key in told:
                continue
            told.add(key)
            yield Sample("temperature.celsius", value, "celsius", labels)
            critical = _degrees(sensor.with_name(sensor.name.replace("_input", "_crit")))
            if critical is not None:
                yield Sample("temperature.critical_celsius", critical, "celsius", labels)
        yield Sample("temperature.sensors", len(told))


def _labels(sensor: Path) -> dict[str, str]:
    number = sensor.name.removesuffix("_input")
    chip = _text(sensor.with_name("name")) or sensor.parent.name
    device = sensor.parent.name.removeprefix("hwmon")
    label = _text(sensor.with_name(f"{number}_label")) or number
    # Two chips of one kind (two disks) are told apart by the number that the kernel gave them.
    return {"chip": f"{chip}-{device}", "sensor": label}


def _degrees(file: Path) -> float | None:
    try:
        value = int(_text(file)) / _MILLI
    except ValueError:
        return None
    return value if _SANE[0] < value < _SANE[1] else None


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:  # also what a sleeping disk answers
        return ""

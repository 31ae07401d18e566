"""The small drawers: interfaces, systemd, temperature, uptime, and the agent itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_agent.collector import AgentFacts, CollectorCost, CollectorError, Settings
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.agent import Agent, parse_status
from ct_ops_agent.collectors.interfaces import Interfaces, InterfacesSettings
from ct_ops_agent.collectors.systemd import Systemd, Unit, parse_units, read_units
from ct_ops_agent.collectors.temperature import Temperature
from ct_ops_agent.collectors.uptime import Uptime

UNITS = """\
ssh.service          loaded    active   running OpenBSD Secure Shell server
● backup.service     loaded    failed   failed  Backup of everything
-.mount              loaded    active   mounted Root Mount
gone.service         not-found inactive dead    gone.service
cut off
"""


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_interfaces_tell_whether_they_carry_traffic_and_how_fast(tmp_path: Path) -> None:
    """A link that is away has no speed; a tunnel has no link and is up."""
    write(tmp_path / "eth0", operstate="up\n", mtu="1500\n", speed="1000\n", carrier_changes="2\n")
    write(tmp_path / "eth1", operstate="down\n", mtu="1500\n", speed="-1\n")
    write(tmp_path / "tun0", operstate="unknown\n", mtu="1400\n")
    write(tmp_path / "veth9", operstate="up\n")
    (tmp_path / "bonding_masters").write_text("")
    samples = collected(Interfaces(InterfacesSettings(), tmp_path))

    assert 3.0 == samples["interfaces.count"]
    assert [1.0, 0.0, 1.0] == [
        samples[f'interfaces.up{{interface="{name}"}}'] for name in ("eth0", "eth1", "tun0")
    ]
    assert 1e9 == samples['interfaces.speed_bits_per_second{interface="eth0"}']
    assert 'interfaces.speed_bits_per_second{interface="eth1"}' not in samples


def test_a_hidden_sys_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A sandbox that is too tight."""
    with pytest.raises(CollectorError, match="is /sys hidden"):
        list(Interfaces(InterfacesSettings(), tmp_path / "none").collect())


def test_units_are_counted_and_failed_ones_named(tmp_path: Path) -> None:
    """Every state is told, so that the last failed unit that was mended is a zero."""
    samples = collected(Systemd(Settings(), run=lambda _: UNITS, booted=tmp_path))

    assert (2.0, 1.0, 0.0) == tuple(
        samples[f'systemd.units{{state="{state}"}}'] for state in ("active", "failed", "activating")
    )
    assert (1.0, 1.0) == (samples["systemd.failed_units"], samples['systemd.failed{unit="backup.service"}'])


def test_units_are_read_as_systemctl_prints_them() -> None:
    """The dot before a failed one is decoration; the query asks for services only."""
    asked: list[list[str]] = []

    def run(command: list[str]) -> str:
        asked.append(command)
        return UNITS

    units = read_units("service", run)

    assert Unit("backup.service", "loaded", "failed", "failed") in units
    assert "active/running" == parse_units(UNITS)[0].active_sub
    assert "--type=service" in asked[0]


def test_attack_a_description_with_a_mark_that_unicode_calls_a_lines_end_makes_no_unit() -> None:
    """Any package brings descriptions."""
    (unit,) = parse_units("a.service loaded active running x\u2028root.service loaded failed failed y\n")

    assert "a.service" == unit.name


def test_a_host_that_systemd_does_not_run_is_no_broken_one(tmp_path: Path) -> None:
    """Containers, Alpine."""
    collector = Systemd(Settings(), run=lambda _: UNITS, booted=tmp_path / "none")

    assert {"units": "this host is not run by systemd"} == missing_parts(collector)


def test_sensors_are_told_by_chip_and_label(tmp_path: Path) -> None:
    """Those that are not connected, or sleep, are left out."""
    write(
        tmp_path / "hwmon0",
        name="coretemp\n",
        temp1_input="45500\n",
        temp1_label="Package id 0\n",
        temp1_crit="100000\n",
    )
    write(
        tmp_path / "hwmon1",
        name="nct6775\n",
        temp1_input="-273000\n",
        temp2_input="nonsense\n",
        temp3_input="30000\n",
    )
    samples = collected(Temperature(Settings(), tmp_path))

    assert {
        'temperature.celsius{chip="coretemp-0",sensor="Package id 0"}': 45.5,
        'temperature.critical_celsius{chip="coretemp-0",sensor="Package id 0"}': 100.0,
        'temperature.celsius{chip="nct6775-1",sensor="temp3"}': 30.0,
        "temperature.sensors": 2.0,
    } == samples


def test_a_virtual_machine_has_no_sensors_and_says_zero(tmp_path: Path) -> None:
    """That is an answer."""
    assert {"temperature.sensors": 0.0} == collected(Temperature(Settings(), tmp_path / "none"))


def test_uptime_is_what_the_kernel_says() -> None:
    """In seconds."""
    assert {"uptime.seconds": 42.5} == collected(Uptime(Settings(), read=lambda: 42.5))


class Facts(AgentFacts):
    """What an agent knows of itself."""

    cpu_s = 0.0

    def costs(self) -> tuple[CollectorCost, ...]:
        return (CollectorCost("cpu", runs=3, cpu_s=self.cpu_s, duration_s=0.25, samples=9),)

    def outbox_bytes(self) -> int:
        return 4096


def test_the_agent_tells_what_it_and_its_collectors_cost(tmp_path: Path) -> None:
    """Shares over the time between two runs."""
    write(tmp_path, status="VmRSS:\t   40000 kB\nRssAnon:\t   20000 kB\nThreads:\t9\n")
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd" / "0").write_text("")
    now, used, facts = [0.0], [1.0], Facts()
    collector = Agent(Settings(), tmp_path, cpu_seconds=lambda: used[0], monotonic=lambda: now[0])
    collector.know(facts)
    collected(collector)
    now[0], used[0], facts.cpu_s = 100.0, 1.5, 0.1
    samples = collected(collector)

    assert (0.5, 40_960_000.0, 20_480_000.0) == (
        samples["agent.cpu_percent"],
        samples["agent.memory_bytes"],
        samples["agent.anonymous_bytes"],
    )
    assert (4096.0, 1.0) == (samples["agent.outbox_bytes"], samples["agent.open_files"])
    assert 0.1 == pytest.approx(samples['agent.collector_cpu_percent{collector="cpu"}'])


def test_sizes_of_a_process_are_in_bytes() -> None:
    """Lines without a unit are left out."""
    assert {"VmRSS": 1024} == parse_status("VmRSS:\t1 kB\nThreads:\t9\n")


def test_an_unreadable_list_of_descriptors_is_said_and_the_rest_is_told(tmp_path: Path) -> None:
    """A hidden /proc costs one sample, not the run."""
    write(tmp_path, status="VmRSS:\t   40000 kB\n")
    collector = Agent(Settings(), tmp_path)
    samples = collected(collector, allow_missing=True)

    assert 40_960_000.0 == samples["agent.memory_bytes"]
    assert "agent.open_files" not in samples
    assert "is /proc hidden" in missing_parts(collector)["agent.open_files"]

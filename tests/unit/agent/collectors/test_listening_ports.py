"""Listening ports, and whose they are as far as the agent may see."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from ct_ops_agent.collector import CollectorError, Settings
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.listening_ports import (
    ListeningPorts,
    Port,
    Socket,
    parse_reserved,
    parse_sockets,
    read_clients_ports,
    read_ports,
)

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = (
    HEAD
    + "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 x 100 0 0 10 0\n"
    + "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 x 20 4 30 10 -1\n"
    + "   2: broken\n"
)
UDP6 = (
    HEAD
    + "   5: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 99 2 x 0\n"
)


def proc_of(folder: Path) -> Path:
    """A kernel's folder with one process that holds a socket."""
    (folder / "net").mkdir()
    (folder / "net" / "tcp").write_text(TCP)
    (folder / "net" / "udp6").write_text(UDP6)
    (folder / "77" / "fd").mkdir(parents=True)
    (folder / "77" / "fd" / "3").symlink_to("socket:[4242]")
    (folder / "77" / "fd" / "4").symlink_to("/dev/null")
    (folder / "77" / "comm").write_text("nginx\n")
    return folder


def test_only_sockets_that_wait_are_ports() -> None:
    """Not those of conversations."""
    assert [8080] == [one.port for one in parse_sockets(TCP.encode().splitlines(), "0A")]


def test_a_port_is_told_with_the_process_behind_it(tmp_path: Path) -> None:
    """A kernel without IPv6 lacks tables, which is no error."""
    ports, complete = read_ports(proc_of(tmp_path))

    assert [Port(53, "udp6", ""), Port(8080, "tcp", "nginx")] == ports
    assert complete


def test_a_port_of_this_process_is_found() -> None:
    """On the real kernel."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        ports, _ = read_ports()

    mine = Path("/proc/self/comm").read_text().strip()
    assert Port(port, "tcp", mine) in ports


def test_two_sockets_on_one_port_are_one(tmp_path: Path) -> None:
    """SO_REUSEPORT: a sample comes once."""
    proc = proc_of(tmp_path)
    second = TCP.splitlines()[1].replace("0:", "3:", 1)
    (proc / "net" / "tcp").write_text(TCP + second + "\n")

    assert 1.0 == collected(ListeningPorts(Settings(), proc))['listening_ports.count{protocol="tcp"}']


@pytest.mark.skipif(os.geteuid() != 0, reason="making a folder of somebody else takes root")
def test_without_the_privilege_ports_are_told_without_their_processes(tmp_path: Path) -> None:
    """And it is said which privilege is missing."""
    proc = proc_of(tmp_path)
    code = (
        "import sys; from pathlib import Path; from ct_ops_agent.collector import Settings; "
        "from ct_ops_agent.collector_testing import missing_parts; "
        "from ct_ops_agent.collectors.listening_ports import ListeningPorts, read_ports; import os; "
        "os.setgid(65534); os.setuid(65534); proc = Path(sys.argv[1]); "
        "print(missing_parts(ListeningPorts(Settings(), proc)), read_ports(proc))"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(0o755)
    (proc / "77" / "fd").chmod(0o700)
    import subprocess  # noqa: PLC0415  for this test only
    import sys  # noqa: PLC0415

    done = subprocess.run([sys.executable, "-c", code, str(proc)], capture_output=True, text=True, check=True)

    assert "CAP_SYS_PTRACE" in done.stdout
    assert "Port(port=8080, protocol='tcp', process='')" in done.stdout


def test_without_the_table_of_tcp_nothing_is_known(tmp_path: Path) -> None:
    """An error that says what to look at."""
    with pytest.raises(CollectorError, match="is /proc mounted"):
        read_ports(tmp_path)


def test_everything_is_there_with_the_privilege(tmp_path: Path) -> None:
    """The kernel's own sockets have no process, which is nobody's lack."""
    assert {} == missing_parts(ListeningPorts(Settings(), proc_of(tmp_path)))


def udp(*ports: int) -> str:
    """A table of sockets that wait for somebody."""
    line = "   5: 00000000:{0:04X} 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 {0} 2 x 0\n"
    return HEAD + "".join(line.format(port) for port in ports)


def test_udp_ports_of_clients_are_counted_and_make_no_series(tmp_path: Path) -> None:
    """A resolver that waits for its answer has another port each time; a TCP port there was asked for."""
    proc = proc_of(tmp_path)
    (proc / "net" / "udp").write_text(udp(53, 40_000, 40_001))
    samples = collected(ListeningPorts(Settings(), proc, clients_ports=lambda: (8080, 40_000, 40_001)))

    assert 3.0 == samples['listening_ports.count{protocol="udp"}']
    assert 'listening_ports.open{port="53",process="",protocol="udp"}' in samples
    assert 'listening_ports.open{port="8080",process="nginx",protocol="tcp"}' in samples
    assert not [series for series in samples if "4000" in series]
    assert Port(40_000, "udp", "") in read_ports(proc)[0]


def test_the_ports_of_clients_are_the_kernels_without_those_that_are_reserved(tmp_path: Path) -> None:
    """Reserving a port is how a host says that a server has it."""
    folder = tmp_path / "sys" / "net" / "ipv4"
    folder.mkdir(parents=True)
    (folder / "ip_local_port_range").write_text("50000\t50004\n")
    (folder / "ip_local_reserved_ports").write_text("80,50001-50002\n")

    assert {50_000, 50_003, 50_004} == read_clients_ports(tmp_path)


@pytest.mark.parametrize(("text", "ports"), [("\n", set()), ("7\n", {7}), ("7,9-11\n", {7, 9, 10, 11})])
def test_reserved_ports_are_written_as_a_list_of_ranges(text: str, ports: set[int]) -> None:
    """As sysctl prints it."""
    assert ports == parse_reserved(text)


def test_a_kernel_that_hides_its_range_has_the_usual_one(tmp_path: Path) -> None:
    """A sandbox without /proc/sys."""
    assert 40_000 in read_clients_ports(tmp_path)
    assert 53 not in read_clients_ports(tmp_path)


def test_attack_a_hundred_thousand_conversations_are_never_held_at_once() -> None:
    """A busy proxy: the table is read line by line, and a line is gone before the next one comes."""

    class Line(bytes):
        __slots__ = ()
        alive = 0

        def __new__(cls, text: bytes) -> Self:
            Line.alive += 1
            return super().__new__(cls, text)

        def __del__(self) -> None:
            Line.alive -= 1

    most = 0
    listening, talking = TCP.encode().splitlines()[1:3]

    def table() -> Iterator[bytes]:
        nonlocal most
        for number in range(100_000):
            yield Line(listening if number == 50_000 else talking)
            most = max(most, Line.alive)

    assert [Socket(8080, "4242")] == list(parse_sockets(table(), "0A"))
    assert most <= 2


def test_more_open_ports_than_are_told_are_said(tmp_path: Path) -> None:
    """None is left out silently."""
    proc = proc_of(tmp_path)
    (proc / "net" / "udp").write_text(udp(*range(1, 601)))
    collector = ListeningPorts(Settings(), proc, clients_ports=lambda: ())

    assert "602 are open, the lowest 500" in missing_parts(collector)["ports"]

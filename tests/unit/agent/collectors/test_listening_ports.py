"""Listening ports, and whose they are as far as the agent may see."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError, Settings
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.listening_ports import ListeningPorts, Port, parse_sockets, read_ports

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
    assert [8080] == [one.port for one in parse_sockets(TCP, "0A")]


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
        if folder.stat().st_uid == 0 and folder.is_relative_to("/tmp"):
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

"""What is read of this very host, and what collectors complain about."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ct_ops_agent.collector import CollectorError
from ct_ops_agent.collectors import listening_ports, software, systemd
from ct_ops_agent.tasks.host import read_packages, read_ports, read_services
from ct_ops_agent.tasks.queries import ReadError
from ct_ops_agent.work import ServiceState


def test_a_port_that_we_listen_on_is_found() -> None:
    """With the name of our process."""
    name = Path("/proc/self/comm").read_text().strip()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = read_ports()

    assert [("tcp", name)] == [(each.protocol, each.process) for each in found if each.port == port]


def test_packages_of_this_host_are_read() -> None:
    """Whichever manager it has; a host without one says so."""
    expected = software.find_packages()
    if expected is None:
        with pytest.raises(ReadError, match="none of the package managers"):
            read_packages()
    else:
        found = read_packages()
        assert (expected.source, len(expected.packages)) == (found.source, len(found.packages))
        assert found.source in {"dpkg", "rpm", "pacman", "apk"}


def test_services_are_told_as_systemd_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, load state, and both states with a slash."""
    monkeypatch.setattr(
        systemd, "run_systemctl", lambda _command: "ssh.service loaded active running OpenBSD Secure Shell\n"
    )

    assert [ServiceState("ssh.service", "loaded", "active/running")] == read_services()


@pytest.mark.parametrize(
    ("module", "reader", "read"),
    [
        (listening_ports, "read_ports", read_ports),
        (systemd, "read_units", read_services),
        (software, "read_packages", read_packages),
    ],
)
def test_a_collectors_complaint_is_the_answer(
    module: object, reader: str, read: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word by word."""

    def complain(*_arguments: object) -> None:
        raise CollectorError("there is no systemctl: this host is not run by systemd")

    monkeypatch.setattr(module, reader, complain)

    assert callable(read)
    with pytest.raises(ReadError, match="not run by systemd"):
        read()

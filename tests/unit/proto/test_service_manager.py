"""What systemd is told, over a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ct_ops_proto.service_manager import ServiceManager, find_service_manager, watchdog_seconds


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().splitlines()


def test_readiness_is_told_with_a_status_on_one_line(listener: socket.socket) -> None:
    """A line of its own would be a command to systemd: no text may start one."""
    ServiceManager(listener.getsockname()).ready("hello\nMAINPID=1")

    assert ["READY=1", "STATUS=hello MAINPID=1"] == heard(listener)


def test_the_watchdog_and_the_stop_have_their_words(listener: socket.socket) -> None:
    """As sd_notify(3) spells them."""
    manager = ServiceManager(listener.getsockname())
    manager.alive()
    manager.stopping()

    assert [["WATCHDOG=1"], ["STOPPING=1"]] == [heard(listener), heard(listener)]


def test_an_abstract_socket_is_reached() -> None:
    """Its name begins with an @ in the environment, and with a NUL in the kernel."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel picks an abstract name
        name = listening.getsockname().decode()
        listening.settimeout(30)
        ServiceManager("@" + name[1:]).alive()

        assert ["WATCHDOG=1"] == heard(listening)


def test_a_manager_that_is_gone_ends_nobody(tmp_path: Path) -> None:
    """Telling it is a courtesy."""
    ServiceManager(str(tmp_path / "nobody")).alive()


def test_no_child_inherits_the_address() -> None:
    """Otherwise a collector's program could declare the agent alive."""
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "LANG": "C"}
    find_service_manager(environment)
    watchdog_seconds(environment, pid=7)

    assert {"LANG": "C"} == environment


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_counts_when_it_is_set_for_this_process(
    environment: dict[str, str], expected: float | None
) -> None:
    """sd_watchdog_enabled(3)."""
    assert expected == watchdog_seconds(dict(environment), pid=7)

"""Listening ports: which TCP and UDP ports are open, and whose they are.

From ``/proc/net``, which anybody may read; the process behind a socket is found by looking through the open
files of every process, of which an unprivileged agent sees only its own. Without that privilege the ports are
told without their processes. `read_ports` also answers the query ``list_ports``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

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

_TABLES = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
"""The state of a socket that waits for whoever comes: LISTEN, and for UDP "unconnected"."""

_MOST_PORTS = 500


@dataclass(frozen=True, slots=True)
class Port:
    """A port that waits for whoever comes."""

    port: int
    protocol: str
    process: str
    """Its name; empty: not ours to see, or the kernel's own."""


@dataclass(frozen=True, slots=True)
class Socket:
    """A line of ``/proc/net/tcp`` and its like."""

    port: int
    inode: str


def parse_sockets(text: str, state: str) -> list[Socket]:
    """Return the sockets of a table that are in a state."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) >= 10 and words[3] == state:
            found.append(Socket(int(words[1].rpartition(":")[2], 16), words[9]))
    return found


def read_ports(proc: Path = Path("/proc")) -> tuple[list[Port], bool]:
    """Return the ports, and whether every process could be looked into.

    Raises:
        CollectorError: the kernel does not tell.
    """
    sockets = [(protocol, each) for protocol in _TABLES for each in _read_table(proc, protocol)]
    owners, complete = _owners(proc, {each.inode for _, each in sockets})
    ports = {Port(each.port, protocol, owners.get(each.inode, "")) for protocol, each in sockets}
    return sorted(ports, key=lambda one: (one.port, one.protocol, one.process)), complete


class ListeningPorts(Collector[Settings]):
    """Collector ``listening_ports``."""

    about = About(
        name="listening_ports",
        summary="Open TCP and UDP ports, and the processes behind them.",
        reads="`/proc/net/tcp`, `tcp6`, `udp`, `udp6`; for the processes `/proc/<pid>/fd`",
        cost="1 ms a run, and 0.1 ms for each process it may look into",
        interval=timedelta(minutes=5),
        samples=(
            SampleDoc("listening_ports.open", "", "1 for each", labels=("port", "process", "protocol")),
            SampleDoc("listening_ports.count", "", "how many", labels=("protocol",)),
        ),
        privilege=Privilege(
            capabilities=("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"),
            without="ports of other users' processes are told without the process",
        ),
    )

    def __init__(self, settings: Settings, proc: Path = Path("/proc")) -> None:
        """Prepare; ``proc`` is the kernel's folder."""
        super().__init__(settings)
        self._proc = proc

    def collect(self) -> Iterator[Reading]:
        """Look at the tables of the kernel."""
        ports, complete = read_ports(self._proc)
        for protocol in _TABLES:
            count = sum(1 for one in ports if one.protocol == protocol)
            yield Sample("listening_ports.count", count, "", {"protocol": protocol})
        for one in ports[:_MOST_PORTS]:
            labels = {"port": str(one.port), "process": one.process, "protocol": one.protocol}
            yield Sample("listening_ports.open", 1, "", labels)
        if not complete and any(not one.process for one in ports):
            yield Missing(
                "processes of other users", "the agent lacks CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
            )


def _read_table(proc: Path, protocol: str) -> list[Socket]:
    path = proc / "net" / protocol
    try:
        return parse_sockets(path.read_text(), _TABLES[protocol])
    except FileNotFoundError:
        if protocol == "tcp":
            raise CollectorError(f"there is no {path}: is /proc mounted?") from None
        return []  # a kernel without IPv6
    except OSError as error:
        raise CollectorError(f"{path} cannot be read: {error.strerror}") from error


def _owners(proc: Path, inodes: set[str]) -> tuple[dict[str, str], bool]:
    """Return the names of the processes that hold these sockets, and whether all could be looked into."""
    owners: dict[str, str] = {}
    complete = True
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode != "0"}
    for pid in _pids(proc):
        try:
            held = {wanted[link] for link in _links(f"{proc}/{pid}/fd") if link in wanted}
        except PermissionError:
            complete = False
            continue
        except OSError:
            continue  # ended since it was listed
        if held:
            name = _name(proc, pid)
            owners.update(dict.fromkeys(held, name))
    return owners, complete


def _pids(proc: Path) -> Iterable[str]:
    return (name for name in os.listdir(proc) if name.isdecimal())  # noqa: PTH208  a tenth of the cost


def _links(folder: str) -> Iterator[str]:
    for descriptor in os.listdir(folder):  # noqa: PTH208  as above
        try:
            yield os.readlink(f"{folder}/{descriptor}")  # noqa: PTH115  as above
        except FileNotFoundError:
            continue


def _name(proc: Path, pid: str) -> str:
    try:
        return (proc / pid / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""

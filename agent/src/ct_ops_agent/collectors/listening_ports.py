"""Listening ports: which TCP and UDP ports are open, and whose they are.

From ``/proc/net``, which anybody may read; the process behind a socket is found by looking through the open
files of every process, of which an unprivileged agent sees only its own. Without that privilege the ports are
told without their processes. `read_ports` also answers the query ``list_ports``.

Of UDP the kernel does not say who serves and who asks: a client that waits for its answer looks the same, and has
another port each time. So UDP ports of the range that the kernel gives to clients are counted, but not told one
by one, unless the host reserves them (``net.ipv4.ip_local_reserved_ports``) because a server has them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
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
_BUFFER_BYTES = 65_536
_KERNELS_DEFAULT = range(32_768, 61_000)
"""What the kernel gives to clients where nobody has set it."""


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


def parse_sockets(lines: Iterable[bytes], state: str) -> Iterator[Socket]:
    """Yield the sockets of a table that are in a state.

    A proxy has a hundred thousand in others: of those only the first words are looked at.
    """
    wanted = state.encode()
    for line in lines:
        first = line.split(None, 4)
        if len(first) > 4 and first[3] == wanted:
            rest = first[4].split()
            if len(rest) >= 6:
                yield Socket(int(first[1].rpartition(b":")[2], 16), rest[5].decode("ascii", "replace"))


def parse_reserved(text: str) -> frozenset[int]:
    """Return the ports of a list like ``8080,9148-9150``."""
    parts = (part.partition("-") for part in text.strip().split(",") if part)
    ranges = (range(int(first), int(last or first) + 1) for first, _, last in parts)
    return frozenset(port for ports in ranges for port in ports)


def read_clients_ports(proc: Path = Path("/proc")) -> Collection[int]:
    """Return the ports that the kernel gives to whoever asks for any; its default where it does not tell."""
    folder = proc / "sys" / "net" / "ipv4"
    try:
        first, last = map(int, (folder / "ip_local_port_range").read_text().split())
        reserved = parse_reserved((folder / "ip_local_reserved_ports").read_text())
    except (OSError, ValueError):
        return _KERNELS_DEFAULT
    given = range(first, last + 1)
    return frozenset(given) - reserved if reserved else given


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
        reads="`/proc/net/tcp`, `tcp6`, `udp`, `udp6`, `/proc/sys/net/ipv4/ip_local_*`; for the processes"
        " `/proc/<pid>/fd`",
        cost="1 ms a run, 0.1 ms for each process it may look into, and 30 ms for 100,000 connections",
        interval=timedelta(minutes=5),
        samples=(
            SampleDoc(
                "listening_ports.open",
                "",
                "1 for each, the lowest 500; of UDP only those that the kernel does not give to clients",
                labels=("port", "process", "protocol"),
            ),
            SampleDoc("listening_ports.count", "", "how many, all of them", labels=("protocol",)),
        ),
        privilege=Privilege(
            capabilities=("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"),
            without="ports of other users' processes are told without the process",
        ),
    )

    def __init__(
        self,
        settings: Settings,
        proc: Path = Path("/proc"),
        clients_ports: Callable[[], Collection[int]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            settings: none of its own.
            proc: the kernel's folder.
            clients_ports: returns the ports that clients get.
        """
        super().__init__(settings)
        self._proc = proc
        self._clients_ports = clients_ports or (lambda: read_clients_ports(proc))

    def collect(self) -> Iterator[Reading]:
        """Look at the tables of the kernel."""
        ports, complete = read_ports(self._proc)
        for protocol in _TABLES:
            count = sum(1 for one in ports if one.protocol == protocol)
            yield Sample("listening_ports.count", count, "", {"protocol": protocol})
        yield from self._open(ports)
        if not complete and any(not one.process for one in ports):
            yield Missing(
                "processes of other users", "the agent lacks CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
            )

    def _open(self, ports: list[Port]) -> Iterator[Reading]:
        clients = self._clients_ports()
        lasting = [one for one in ports if not (one.protocol.startswith("udp") and one.port in clients)]
        for one in lasting[:_MOST_PORTS]:
            labels = {"port": str(one.port), "process": one.process, "protocol": one.protocol}
            yield Sample("listening_ports.open", 1, "", labels)
        if len(lasting) > _MOST_PORTS:
            yield Missing("ports", f"{len(lasting)} are open, the lowest {_MOST_PORTS} are told one by one")


def _read_table(proc: Path, protocol: str) -> list[Socket]:
    path = proc / "net" / protocol
    try:
        with path.open("rb", _BUFFER_BYTES) as lines:
            return list(parse_sockets(lines, _TABLES[protocol]))
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

"""What a worker inherits from its parent, by file descriptors and one variable of its environment.

* the port for agents: each worker listens on a socket of its own (SO_REUSEPORT), so the kernel spreads connections
  over those that live and gives none to one that does not;
* the listening sockets of the HTTP app and of the admin API: shared, whichever worker is free accepts;
* the lock of the data directory: it is held until the last of the family has gone;
* its line to the parent: when the parent goes, however that happens, the worker hears it and stops.
"""

from __future__ import annotations

import json
import socket
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass

VARIABLE = "CT_OPS_WORKER_PLACE"


@dataclass(frozen=True)
class Place:
    """One worker's inheritance."""

    index: int
    grpc_port: int
    http_fd: int
    admin_fd: int
    lock_fd: int
    line_fd: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the worker must be able to use."""
        return (self.http_fd, self.admin_fd, self.lock_fd, self.line_fd)

    def written(self) -> str:
        """Return it as the variable's value."""
        return json.dumps(asdict(self))

    def http_socket(self) -> socket.socket:
        """Return the listening socket of the HTTP app."""
        return _non_blocking(self.http_fd)

    def admin_socket(self) -> socket.socket:
        """Return the listening socket of the admin API."""
        return _non_blocking(self.admin_fd)

    def line(self) -> socket.socket:
        """Return the line to the parent."""
        return _non_blocking(self.line_fd)


def inherited_place(environment: MutableMapping[str, str]) -> Place | None:
    """Return the place of this worker, taking it out of the environment; None for whoever is no worker."""
    written = environment.pop(VARIABLE, "")
    return Place(**json.loads(written)) if written else None


def _non_blocking(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.settimeout(0)
    return sock

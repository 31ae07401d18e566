"""Who is at the other end of a UNIX socket, as the kernel knows it. All that depends on the platform is here.

Linux says it of every connected socket (``SO_PEERCRED``). Elsewhere nobody is known by this module, and what keeps
strangers out is the mode of the socket's file.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
from dataclasses import dataclass

_PEERCRED = struct.Struct("3i")  # pid, uid, gid
_OPTION: int | None = getattr(socket, "SO_PEERCRED", None)


@dataclass(frozen=True, slots=True)
class Peer:
    """A user of this host."""

    uid: int
    name: str
    """The system's name of the user; empty when it has none."""

    @property
    def may_operate(self) -> bool:
        """Whether this is root or the user of this process."""
        return self.uid in {0, os.geteuid()}


def peer_of(sock: socket.socket) -> Peer | None:
    """Return who is at the other end of a connected UNIX socket; None where the platform does not tell."""
    if _OPTION is None:
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, _OPTION, _PEERCRED.size)
    uid = int(_PEERCRED.unpack(credentials)[1])
    return Peer(uid, _name_of(uid))


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""

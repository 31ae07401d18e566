"""What systemd is told, by the datagrams of sd_notify(3). Without systemd nothing is told, at no cost.

``NOTIFY_SOCKET`` names the socket (a leading ``@``: an abstract one) and is taken out of the environment, so
that no child speaks for us.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

_log = logging.getLogger(__name__)


class ServiceManager:
    """Whoever started us, if it wants to know."""

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """Tell that the configuration is valid and the work has begun."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def status(self, text: str) -> None:
        """Tell in one sentence how it is: ``systemctl status`` shows it."""
        self._tell(f"STATUS={_line(text)}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell that we were asked to stop and are about to."""
        self._tell("STOPPING=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:  # a manager that does not listen must not end its service
            _log.debug("the service manager was not told: %s", error)


def find_service_manager(environment: MutableMapping[str, str]) -> ServiceManager:
    """Return the service manager of this process, taking its address out of the environment."""
    return ServiceManager(environment.pop("NOTIFY_SOCKET", ""))


def watchdog_seconds(environment: MutableMapping[str, str], *, pid: int | None = None) -> float | None:
    """Return how long we may be silent, None when nobody counts (sd_watchdog_enabled(3))."""
    microseconds = environment.pop("WATCHDOG_USEC", "")
    meant_for = environment.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if meant_for and meant_for != str(os.getpid() if pid is None else pid):
        return None
    return int(microseconds) / 1_000_000


def _line(text: str) -> str:
    return " ".join(text.split())

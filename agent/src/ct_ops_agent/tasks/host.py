"""What queries and tasks read of this host: the readers of three collectors, in the values that are sent.

The collectors are imported when somebody asks. Their complaints, which are sentences for operators, become the
answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ct_ops_agent.collector import CollectorError
from ct_ops_agent.tasks.inventory import Packages
from ct_ops_agent.tasks.queries import ReadError
from ct_ops_agent.work import OpenPort, ServiceState, SoftwarePackage


def read_ports() -> Sequence[OpenPort]:
    """Return the listening ports. Raises ``ReadError``."""
    from ct_ops_agent.collectors import listening_ports  # noqa: PLC0415 - loaded when asked

    with _told():
        ports, _ = listening_ports.read_ports()
    return [OpenPort(each.port, each.protocol, each.process) for each in ports]


def read_services() -> Sequence[ServiceState]:
    """Return the services of systemd. Raises ``ReadError``."""
    from ct_ops_agent.collectors import systemd  # noqa: PLC0415 - loaded when asked

    with _told():
        units = systemd.read_units("service")
    return [ServiceState(each.name, each.load_state, each.active_sub) for each in units]


def read_packages() -> Packages:
    """Return the installed packages. Raises ``ReadError``."""
    from ct_ops_agent.collectors import software  # noqa: PLC0415 - loaded when asked

    with _told():
        found = software.read_packages()
    return Packages(
        found.source,
        [
            SoftwarePackage(
                each.name, each.version, each.architecture, each.publisher, each.installed_at_unix
            )
            for each in found.packages
        ],
    )


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except CollectorError as error:
        raise ReadError(str(error)) from error

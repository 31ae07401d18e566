"""The built-in collectors: one closed drawer each, imported only when it runs.

Names are those of ``[collectors.NAME]``; values are "module:Class", in this package where the module has no
dot. Which of them run by default stands here as well, so that the daemon need not import the others to find
out; a test compares it with what each says of itself.

Beside its collector a drawer may have a reader (`software.read_packages`, `listening_ports.read_ports`,
`systemd.read_units`): tasks and queries answer from the same source.
"""

from __future__ import annotations

from collections.abc import Mapping

ON_BY_DEFAULT: Mapping[str, str] = {
    "agent": "agent:Agent",
    "cpu": "cpu:Cpu",
    "disk": "disk:Disk",
    "disk_io": "disk_io:DiskIo",
    "interfaces": "interfaces:Interfaces",
    "listening_ports": "listening_ports:ListeningPorts",
    "memory": "memory:Memory",
    "network": "network:Network",
    "processes": "processes:Processes",
    "software": "software:Software",
    "systemd": "systemd:Systemd",
    "temperature": "temperature:Temperature",
    "uptime": "uptime:Uptime",
    "users": "users:Users",
}

OFF_BY_DEFAULT: Mapping[str, str] = {
    "certificates": "certificates:Certificates",
    "textfile": "ct_ops_agent.foreign.textfile:TextFiles",
}

BUILT_IN: Mapping[str, str] = {**ON_BY_DEFAULT, **OFF_BY_DEFAULT}

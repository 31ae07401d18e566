"""Where everything is on a host, and inside the root of an image.

Paths are those of the installed host. `inside` leads to the real file when that host is an image under
another root; a symbolic link in there is followed as the host will follow it, never out of the image.
"""

from __future__ import annotations

import os
from pathlib import Path

from ct_ops_agent.config.schema import DEFAULT_FILE

NAME = "ct-ops-agent"
USER = "ct-ops"

VERSIONS = Path("/usr/lib/ct-ops/agent")
"""One folder for each version."""

RECORD = VERSIONS / "installed.json"
PROGRAM = Path("/usr/local/bin/ct-ops-agent")
"""A symbolic link to the version in use."""

CONFIGURATION = DEFAULT_FILE
AUTHORITY = Path("/etc/ct-ops/agent-server-ca.crt")
"""The authority that signed the server's certificate, when the installation brought one."""

CREDENTIAL = Path("/etc/credstore/enrolment_token")
"""Where systemd 251 and later looks for the unit's credential."""

OLD_CREDENTIAL = Path("/etc/ct-ops/agent-credentials/enrolment_token")
"""Where the agent itself looks, for a systemd that has no credential store."""

UNIT = Path("/etc/systemd/system/ct-ops-agent.service")
DROP_INS = UNIT.with_name(f"{UNIT.name}.d")
CREDENTIAL_DROP_IN = DROP_INS / "10-credentials.conf"
DATA_DROP_IN = DROP_INS / "20-data-dir.conf"
WANTED = Path("/etc/systemd/system/multi-user.target.wants/ct-ops-agent.service")
SYSUSERS = Path("/etc/sysusers.d/ct-ops-agent.conf")
DATA = Path("/var/lib/ct-ops/agent")

PACKAGED_UNITS = (
    Path("/usr/lib/systemd/system/ct-ops-agent.service"),
    Path("/lib/systemd/system/ct-ops-agent.service"),
)
"""Where a package of the distribution puts the unit: that agent is the package manager's."""

_MOST_LINKS = 40


def inside(root: Path, path: Path) -> Path:
    """Return where a path of the installed host is, with every folder on the way resolved inside `root`.

    The last part is not followed: it is what will be replaced.

    Raises:
        OSError: the links never end.
    """
    if root == Path("/"):
        return path
    found, waiting, links = root, list(path.parts[1:-1]), 0
    while waiting:
        part = waiting.pop(0)
        if part == "..":
            found = found if found == root else found.parent
            continue
        if not (found / part).is_symlink():
            found = found / part
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(f"too many symbolic links on the way to {path} in {root}")
        target = Path(os.readlink(found / part))  # noqa: PTH115 - a link of the image, not of this host
        if target.is_absolute():
            found = root
        waiting = [*(each for each in target.parts if each != "/"), *waiting]
    return found / path.name

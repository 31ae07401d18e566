"""How a worker is started."""

from __future__ import annotations

from ct_ops_server.workers.supervisor import worker_command


def test_a_frozen_server_starts_its_workers_as_itself() -> None:
    """It takes no options of Python."""
    assert worker_command("/usr/lib/ct-ops/server/1.0/ct-ops-server", frozen=True) == (
        "/usr/lib/ct-ops/server/1.0/ct-ops-server",
        "serve",
    )
    assert worker_command("/usr/bin/python3", frozen=False)[:3] == ("/usr/bin/python3", "-P", "-m")

"""The whole program with INGEST_LOG_FORMAT=json: what a collector of logs reads from its standard error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def test_every_line_of_a_servers_life_is_an_object(tmp_path: Path) -> None:
    """From its first start, which makes keys and a database, to its orderly end."""
    environment = {
        "INGEST_DATA_DIR": str(tmp_path / "server"),
        "INGEST_GRPC_HOST": "127.0.0.1",
        "INGEST_GRPC_PORT": "0",
        "INGEST_HTTP_PORT": "0",
        "INGEST_WEB_SERVER_CERT": "",
        "INGEST_LOG_FORMAT": "json",
    }
    with (tmp_path / "log").open("w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "ct_ops_server", "serve"],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("ready ")
            server.send_signal(signal.SIGTERM)
            assert 0 == server.wait(60)
        finally:
            server.kill()
            server.communicate()
    said = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]

    assert "stopping" in {line["message"] for line in said}
    assert {server.pid} == {line["pid"] for line in said}
    assert any("port" in line["message"] for line in said)

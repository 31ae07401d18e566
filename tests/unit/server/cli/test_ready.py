"""``ct-ops-server ready``: it asks until the server serves, and says why it does not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ct_ops_server.cli.ready import asked_until_ready, what_is_wrong


@contextmanager
def answering(status: int, body: object) -> Iterator[int]:
    """Run a server that says this of its readiness; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_serves_has_nothing_wrong() -> None:
    """As /readyz says it."""
    with answering(200, {"ready": True, "problems": {}}) as port:
        assert what_is_wrong("127.0.0.1", port) == ""


@pytest.mark.parametrize(
    ("body", "said"),
    [({"problems": {"database": "it does not answer"}}, "database: it does not answer"), (["odd"], "odd")],
)
def test_a_server_that_does_not_says_why(body: object, said: str) -> None:
    """Whatever it answers with."""
    with answering(503, body) as port:
        assert said in what_is_wrong("127.0.0.1", port)


def test_nobody_at_the_port_is_no_server() -> None:
    """The sentence names the place that was asked."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert f"no server answers at 127.0.0.1 port {port}" in what_is_wrong("127.0.0.1", port)


def test_it_is_asked_again_until_patience_ends() -> None:
    """Under a clock that only pauses move."""
    clock = [0.0]
    answers = iter(["starting", "starting", ""])

    def pause(span_s: float) -> None:
        clock[0] += span_s

    assert asked_until_ready(lambda: next(answers), 10.0, now_s=lambda: clock[0], pause=pause) == ""
    assert asked_until_ready(lambda: "never", 10.0, now_s=lambda: clock[0], pause=pause) == "never"
    assert 10.0 <= clock[0] < 12.0

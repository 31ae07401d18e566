"""The server's log: times in UTC, and no tokens, whoever logs them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from ct_ops_server.cli.logs import configure_logging
from ct_ops_server.edge.request_ids import request_id

TOKEN = "tok_" + "a2" * 16


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    configure_logging("info", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_says_when_in_utc_how_grave_and_who(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like every other time that the server prints, also on a host in another zone."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    record = logging.LogRecord("ct_ops_server", logging.INFO, "", 1, "made %s", ("the CA",), None)
    record.created = 1_900_000_000.0
    logging.getLogger().handle(record)

    assert "2030-03-17T17:46:40Z INFO ct_ops_server: made the CA\n" == log.getvalue()


def test_an_enrolment_token_is_masked_in_messages_and_tracebacks(log: io.StringIO) -> None:
    """Attack: a token in a field that ends up in an error's text."""
    try:
        int(TOKEN)
    except ValueError:
        logging.getLogger("any.library").exception("Register with %s.aGludA failed", TOKEN)

    assert TOKEN not in log.getvalue()
    assert re.search(r"ERROR any\.library: Register with <hidden> failed\n", log.getvalue())


def test_libraries_do_not_chatter(log: io.StringIO) -> None:
    """Migrations and HTTP requests are no events of the server's."""
    for library in ("alembic.runtime", "httpx", "uvicorn.error"):
        logging.getLogger(library).info("did something")

    assert "" == log.getvalue()


def test_the_level_is_the_configured_one(log: io.StringIO) -> None:
    """`INGEST_LOG_LEVEL` leaves out what is less grave."""
    configure_logging("warning", stream=log)
    logging.getLogger("ct_ops_server").info("connected")
    logging.getLogger("ct_ops_server").warning("refused")

    assert "connected" not in log.getvalue()
    assert "refused" in log.getvalue()


def test_a_line_about_a_request_carries_its_id_and_the_next_line_does_not(log: io.StringIO) -> None:
    """The peer was told the same id; lines about nobody's request have none."""
    with request_id() as drawn:
        logging.getLogger("ct_ops_server").info("refused")
    logging.getLogger("ct_ops_server").info("stopping")

    first, second = log.getvalue().splitlines()
    assert first.endswith(f"refused [request {drawn}]")
    assert second.endswith("stopping")


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\x1b[2J", "\u2028", "\x85", "\u202e"])
def test_attack_a_peers_value_begins_no_line_and_speaks_to_no_terminal(log: io.StringIO, break_: str) -> None:
    """Names are cleaned where they come in; what slips through is escaped here."""
    logging.getLogger("ct_ops_server").info("hostname %s", f"web{break_}2030-01-01T00:00:00Z ERROR forged")

    (line,) = log.getvalue().splitlines()
    assert line.isprintable()


def test_json_is_one_object_a_line_with_the_requests_id(log: io.StringIO) -> None:
    """Whatever is in the message, and with the traceback in a field of its own."""
    configure_logging("info", "json", stream=log)
    with request_id() as drawn:
        try:
            int(TOKEN)
        except ValueError:
            logging.getLogger("ct_ops_server").exception("line one\nline two of %s \u2028 é", TOKEN)

    (line,) = log.getvalue().splitlines()
    said = json.loads(line)
    assert (said["level"], said["logger"]) == ("error", "ct_ops_server")
    assert said["message"] == "line one\nline two of <hidden> \u2028 é"
    assert said["request_id"] == drawn
    assert "Traceback" in said["exception"]
    assert TOKEN not in line
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", said["time"])


def test_json_leaves_out_what_there_is_not(log: io.StringIO) -> None:
    """A line about no request and without an error has neither field."""
    configure_logging("info", "json", stream=log)
    logging.getLogger("ct_ops_server").info("stopping")

    assert {"time", "level", "logger", "message", "pid"} == json.loads(log.getvalue()).keys()

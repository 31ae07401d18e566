"""The server's log: times in UTC, and no tokens, whoever logs them."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from ct_ops_server.cli.logs import configure_logging

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

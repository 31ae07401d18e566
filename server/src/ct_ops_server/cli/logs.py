"""The server's log on standard error, one event a line, times in UTC like everywhere else.

* ``text``  for people: ``2030-03-17T17:46:40Z INFO ct_ops_server: made the CA [request 5f0c…]``
* ``json``  for collectors of logs: an object a line, with ``time``, ``level``, ``logger``, ``message``, ``pid``, and
  where there is one ``request_id`` and ``exception``; a refusal also has ``method`` and ``reason``

What is said on behalf of a request carries its id, the one that the peer was told (``edge.request_ids``).

One filter stands before the only handler and masks enrolment tokens and agent tokens, whoever logs
them, tracebacks included (``ct_ops_proto.log_masking``). Control characters in a message are written as escapes, so
that no peer can begin a line of its own or speak to a terminal; a traceback is ours and keeps its lines in text.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

from ct_ops_proto.log_masking import SecretFilter
from ct_ops_server.edge.request_ids import FIELDS, current_request_id

_NOISY = ("alembic", "httpx", "uvicorn")


class TextLines(logging.Formatter):
    """Formats for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own name
        """Return the line without a traceback."""
        record.message = escaped(record.message)
        line = super().formatMessage(record)
        request_id = current_request_id()
        return f"{line} [request {request_id}]" if request_id else line


class JsonLines(logging.Formatter):
    """Formats for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one object; everything beyond ASCII is escaped."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if request_id := current_request_id():
            said["request_id"] = request_id
        said |= getattr(record, FIELDS, {})
        if record.exc_text or record.exc_info:
            said["exception"] = record.exc_text or self.formatException(record.exc_info or (None, None, None))
        return json.dumps(said)


def configure_logging(level: str, form: str = "text", *, stream: TextIO | None = None) -> None:
    """Send the log of this process to ``stream``, standard error by default.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; libraries never say less than a warning.
        form: ``text`` or ``json``.
        stream: where to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    handler.addFilter(SecretFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def escaped(text: str) -> str:
    """Return the text with escapes instead of control characters and of whatever else ends or turns a line."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)

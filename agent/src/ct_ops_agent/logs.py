"""The agent's log: one line an event, on standard error, where the journal picks it up.

One filter stands before the only handler and masks enrolment tokens and agent tokens, whoever logs
them, tracebacks included. It is the second line of defence: secrets have a masked type already.
"""

import logging
import re
import sys
import time
from typing import TextIO

_SECRETS = re.compile(r"tok_[a-z2-7]{32}\S*|eyJ[\w-]+\.[\w-]+\.[\w-]*")
_MASK = "<hidden>"


class SecretFilter(logging.Filter):
    """Masks tokens in messages and tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; every record passes."""
        record.msg, record.args = mask(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = mask(logging.Formatter().formatException(record.exc_info))
        return True


def mask(text: str) -> str:
    """Return the text with everything that looks like a token replaced."""
    return _SECRETS.sub(_MASK, text)


def configure_logging(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream`, standard error by default."""
    handler = logging.StreamHandler(stream or sys.stderr)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(SecretFilter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # it announces every run of every job
    logging.getLogger("httpx").setLevel(logging.WARNING)

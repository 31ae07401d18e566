"""The server's log: one line an event, on standard error, times in UTC like everywhere else.

One filter stands before the only handler and masks enrolment tokens and agent tokens, whoever logs
them, tracebacks included (``ct_ops_proto.log_masking``).
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from ct_ops_proto.log_masking import SecretFilter

_NOISY = ("alembic", "httpx", "uvicorn")


def configure_logging(level: str, *, stream: TextIO | None = None) -> None:
    """Send the log of this process to ``stream``, standard error by default.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; libraries never say less than a warning.
        stream: where to.
    """
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(SecretFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)

"""The agent's log: one line an event, on standard error, where the journal picks it up.

One filter stands before the only handler and masks enrolment tokens and agent tokens, whoever logs
them, tracebacks included (``ct_ops_proto.log_masking``).
"""

import logging
import sys
import time
from typing import TextIO

from ct_ops_proto.log_masking import SecretFilter


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

"""The log hides tokens, whoever logs them."""

import io
import logging
from collections.abc import Iterator

import pytest

from ct_ops_agent.logs import configure_logging

TOKEN = "tok_" + "a2" * 16


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    configure_logging(stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_token_in_a_message_is_masked(log: io.StringIO) -> None:
    """The whole token goes, its hint as well."""
    logging.getLogger("any").warning("token %s was refused", TOKEN + ".aGludA")

    assert log.getvalue().endswith("WARNING token <hidden> was refused\n")


def test_a_token_in_a_traceback_is_masked(log: io.StringIO) -> None:
    """An exception's text is no way around the filter."""
    try:
        int(TOKEN)
    except ValueError:
        logging.getLogger("any").exception("failed")

    assert TOKEN not in log.getvalue()
    assert "ValueError: invalid literal" in log.getvalue()

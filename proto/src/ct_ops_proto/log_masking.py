"""The filter that stands before every log handler of ours and masks tokens, whoever logs them.

It is the second line of defence: secrets have types whose ``repr`` shows nothing, and nobody logs one
on purpose. But a library may quote a message, and a traceback what it was called with.

Masked are enrolment tokens with their hint (``tok_`` …) and agent tokens (a JWT's three parts).
Opaque tokens of an existing server have no form by which they could be found.
"""

from __future__ import annotations

import logging
import re

_SECRETS = re.compile(r"tok_[a-z2-7]{32}\S*|eyJ[\w-]+\.[\w-]+\.[\w-]*")
_MASK = "<hidden>"


class SecretFilter(logging.Filter):
    """Masks tokens in messages and tracebacks. Add it to a handler: a logger's filter sees its own records only."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; every record passes."""
        record.msg, record.args = mask(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = mask(logging.Formatter().formatException(record.exc_info))
        return True


def mask(text: str) -> str:
    """Return the text with everything that looks like a token replaced."""
    return _SECRETS.sub(_MASK, text)

"""The gate that every text of a support bundle passes.

Two ways, since neither is enough: what is known to be secret on this host (the enrolment token of every source,
the agent token, each line of a private key) is replaced wherever it stands, also in a log line that quotes it; and
whatever looks like a secret (a token of ours, a JWT, a private key in PEM, a password in a URL) is replaced although
nobody knows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ct_ops_agent.identity.credentials import STATE_NAME
from ct_ops_agent.identity.keystore import PRIVATE_KEY_NAME
from ct_ops_agent.identity.rotation import NEXT_KEY_NAME
from ct_ops_proto.log_masking import mask as mask_tokens

HIDDEN = "<hidden>"
_SHORTEST = 6
"""A shorter text is in every other word; whoever has such a password has no secret."""

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_URL_PASSWORD = re.compile(r"(?P<before>[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@]*:)[^/\s@]+(?P<after>@)")
_SAID = re.compile(
    r"(?P<before>\b[\w-]*(?:password|passwd|secret|token|api[_-]?key|credential)[\w-]*\s*[=:]\s*)(?P<value>[^\s,;]+)",
    re.IGNORECASE,
)


class Masking:
    """Masks texts of one host."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Prepare; `secrets` are texts that must not be seen, whatever is around them."""
        known = {secret for secret in secrets if len(secret) >= _SHORTEST}
        self._known = sorted(known, key=len, reverse=True)  # a secret may hold another

    def mask(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        text = _PRIVATE_KEY.sub(HIDDEN, text)
        text = _URL_PASSWORD.sub(rf"\g<before>{HIDDEN}\g<after>", text)
        return mask_tokens(text)

    def mask_log(self, text: str) -> str:
        """Return lines of a log without secrets: also without what follows `password=` and its like."""
        return _SAID.sub(rf"\g<before>{HIDDEN}", self.mask(text))


def secrets_of(data_dir: Path, others: Iterable[str] = ()) -> Iterator[str]:
    """Yield what is secret on a host: of its data directory, and what else was found."""
    for name in (PRIVATE_KEY_NAME, NEXT_KEY_NAME):
        lines = _read(data_dir / name).splitlines()
        yield from (line.strip() for line in lines if not line.startswith("-----"))
    with suppress(ValueError):
        state = json.loads(_read(data_dir / STATE_NAME) or "{}")
        if isinstance(state, dict) and isinstance(token := state.get("jwt_token"), str):
            yield token
    for secret in others:
        yield secret
        head, _, hint = secret.partition(".")
        yield from (head, hint)  # the two halves of a token of ours


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

"""Takes the hosts of a run back: ``POST /api/admin/hosts/bulk-delete`` of the server (or of an existing web app).

Only hosts that a run has named can be meant: the prefix is ``loadtest-<run id>-``, or ``loadtest-`` for all runs. To ask again is
harmless: what is gone is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from ct_ops_loadtest.plan import PREFIX

_PATH = "/api/admin/hosts/bulk-delete"
_PATIENCE_S = 600.0
"""A server may need a while for 10,000 hosts."""


class CleanupError(Exception):
    """The server did not delete. ``str()`` is a sentence."""


@dataclass(frozen=True)
class CleanedUp:
    """What the server says that it did."""

    deleted: int
    failed: tuple[str, ...]


def prefix_of(run_id: str | None, hostname_prefix: str = PREFIX) -> str:
    """Return how the hostnames of a run start, of all runs without one."""
    return f"{hostname_prefix}-{run_id}-" if run_id else f"{hostname_prefix}-"


def clean_up(
    web_url: str, admin_key: str, prefix: str, *, transport: httpx.BaseTransport | None = None
) -> CleanedUp:
    """Delete the hosts with a prefix.

    Raises:
        CleanupError: the server cannot be reached, or refuses.
    """
    # Both headers: existing servers read the second one only.
    headers = {"Authorization": f"Bearer {admin_key}", "X-Loadtest-Admin-Key": admin_key}
    try:
        with httpx.Client(timeout=_PATIENCE_S, transport=transport) as client:
            response = client.post(
                web_url.rstrip("/") + _PATH, json={"hostnamePrefix": prefix}, headers=headers
            )
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
        raise CleanupError(f"{web_url} does not answer: {error}") from error
    answer = _object(response)
    if response.status_code != httpx.codes.OK:
        raise CleanupError(_trouble(response.status_code, str(answer.get("error", ""))))
    return CleanedUp(int(answer.get("deleted", 0)), tuple(map(str, answer.get("failed", ()))))


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _trouble(status: int, text: str) -> str:
    if status == httpx.codes.UNAUTHORIZED:
        return "the server does not accept the key: it is CT_OPS_LOADTEST_ADMIN_KEY of its configuration"
    if status == httpx.codes.NOT_FOUND:
        return "there is no such endpoint: --web-url is the server's HTTP app (port 8080), not its agent port"
    return f"the server refused ({status}): {text or 'without a reason'}"

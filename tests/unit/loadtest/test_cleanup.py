"""Taking hosts back: what is asked, and what is made of the answer."""

from __future__ import annotations

import json

import httpx
import pytest

from ct_ops_loadtest.cleanup import CleanedUp, CleanupError, clean_up, prefix_of


def asked(status: int, answer: object, requests: list[httpx.Request] | None = None) -> CleanedUp:
    def answered(request: httpx.Request) -> httpx.Response:
        if requests is not None:
            requests.append(request)
        return httpx.Response(status, content=answer if isinstance(answer, str) else json.dumps(answer))

    return clean_up(
        "http://127.0.0.1:8080/", "k3y", "loadtest-run-1-", transport=httpx.MockTransport(answered)
    )


def test_the_key_is_sent_in_both_headers_and_the_prefix_names_the_run() -> None:
    """Existing servers read the one, ours both."""
    requests: list[httpx.Request] = []
    done = asked(200, {"deleted": 3, "failed": ["loadtest-run-1-0001: in use"]}, requests)
    (request,) = requests

    assert CleanedUp(3, ("loadtest-run-1-0001: in use",)) == done
    assert "http://127.0.0.1:8080/api/admin/hosts/bulk-delete" == str(request.url)
    assert ("Bearer k3y", "k3y") == (
        request.headers["authorization"],
        request.headers["x-loadtest-admin-key"],
    )
    assert {"hostnamePrefix": "loadtest-run-1-"} == json.loads(request.content)


def test_a_prefix_ends_where_a_run_does() -> None:
    """``run-1`` is not ``run-10``."""
    assert "loadtest-run-1-" == prefix_of("run-1")
    assert "loadtest-" == prefix_of(None)


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (401, {"error": "Unauthorized"}, "does not accept the key"),
        (404, "not found", "is the server's HTTP app"),
        (
            503,
            {"error": "Load-test admin endpoint is disabled"},
            "refused \\(503\\): Load-test admin endpoint",
        ),
        (500, "<html>", "refused \\(500\\): without a reason"),
        (302, [], "refused \\(302\\)"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, answer: object, said: str) -> None:
    """Also when a proxy answers in the server's place; and never with the key."""
    with pytest.raises(CleanupError, match=said) as raised:
        asked(status, answer)

    assert "k3y" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[::1"])
def test_a_server_that_cannot_be_reached_is_named(url: str) -> None:
    """As it was written."""
    with pytest.raises(CleanupError, match="does not answer"):
        clean_up(url, "k3y", "loadtest-")

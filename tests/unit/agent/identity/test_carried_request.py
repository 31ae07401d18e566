"""The ids of requests that wait for a reply: durable, few, and of one key."""

from __future__ import annotations

from pathlib import Path

from ct_ops_agent.identity.carried_request import (
    CARRIED_REQUEST_NAME,
    OpenRequests,
    forget_open_requests,
    keep_open_request,
    load_open_requests,
)


def test_nothing_waits_on_a_new_host(tmp_path: Path) -> None:
    """There is no file."""
    assert load_open_requests(tmp_path).ids == ()


def test_a_second_request_does_not_close_the_first(tmp_path: Path) -> None:
    """Whichever stick comes back first is taken."""
    keep_open_request(tmp_path, "key", "a")
    keep_open_request(tmp_path, "key", "b")

    assert OpenRequests("key", ("a", "b")) == load_open_requests(tmp_path)


def test_only_the_last_few_are_kept(tmp_path: Path) -> None:
    """Whoever makes requests in a loop fills no disk."""
    for number in range(20):
        keep_open_request(tmp_path, "key", str(number))

    assert tuple(str(number) for number in range(12, 20)) == load_open_requests(tmp_path).ids


def test_requests_of_an_earlier_key_wait_no_more(tmp_path: Path) -> None:
    """Their replies would be about that key."""
    keep_open_request(tmp_path, "old", "a")
    keep_open_request(tmp_path, "new", "b")

    assert OpenRequests("new", ("b",)) == load_open_requests(tmp_path)


def test_all_are_forgotten_when_one_was_answered(tmp_path: Path) -> None:
    """And forgetting twice does no harm."""
    keep_open_request(tmp_path, "key", "a")
    forget_open_requests(tmp_path)
    forget_open_requests(tmp_path)

    assert load_open_requests(tmp_path).ids == ()


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    """A new request is made easily."""
    (tmp_path / CARRIED_REQUEST_NAME).write_text("[1]")

    assert load_open_requests(tmp_path).ids == ()

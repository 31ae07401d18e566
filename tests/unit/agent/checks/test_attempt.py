"""One run's time, and how it is cut short."""

from __future__ import annotations

import socket
import threading

import pytest

from ct_ops_agent.checks.attempt import Attempt, connect


def test_what_is_left_gets_less_until_nothing_is() -> None:
    """Each call of a probe gets the rest of the whole, so that many short ones are not endless."""
    now = [100.0]
    attempt = Attempt(5.0, lambda: now[0])
    now[0] = 103.0
    assert 2.0 == attempt.left()

    now[0] = 105.0
    with pytest.raises(TimeoutError):
        attempt.left()


def test_giving_up_wakes_who_waits_for_a_peer() -> None:
    """In the middle of a call that would take longer."""
    ours, theirs = socket.socketpair()
    attempt, began, heard = Attempt(60.0), threading.Event(), list[bytes]()

    def wait() -> None:
        with attempt.watching(ours):
            began.set()
            heard.append(ours.recv(1))

    waiting = threading.Thread(target=wait)
    waiting.start()
    began.wait(10)
    attempt.give_up()
    waiting.join(10)
    theirs.close()

    assert [b""] == heard
    assert -1 == ours.fileno()


def test_a_connection_made_after_it_was_given_up_is_closed_at_once() -> None:
    """Nobody is there to cut it any more."""
    ours, theirs = socket.socketpair()
    attempt = Attempt(60.0)
    attempt.give_up()
    with theirs, pytest.raises(TimeoutError), attempt.watching(ours):
        pass

    assert -1 == ours.fileno()


def test_a_connection_that_is_closed_already_can_be_given_up() -> None:
    """The two happen at the same time now and then."""
    ours, theirs = socket.socketpair()
    attempt = Attempt(60.0)
    with theirs, attempt.watching(ours):
        ours.close()
        attempt.give_up()


def test_every_address_gets_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a dead address first is still reachable in time; the first reason is the one that is told."""
    given: list[float] = []
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{number}", 1)) for number in (1, 2)]
    monkeypatch.setattr("ct_ops_agent.checks.attempt.socket.getaddrinfo", lambda *_, **__: addresses)

    def refuse(connection: socket.socket, address: tuple[str, int]) -> None:
        given.append(connection.gettimeout() or 0.0)
        raise OSError(f"no way to {address[0]}")

    monkeypatch.setattr(socket.socket, "connect", refuse, raising=False)

    with pytest.raises(OSError, match=r"no way to 192\.0\.2\.1"):
        connect("two.example.com", 1, Attempt(8.0, lambda: 0.0))
    assert [4.0, 8.0] == given

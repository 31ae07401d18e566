"""When the server's own certificate is replaced while it is served."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.authority.sealing import SealingSecret
from ct_ops_server.authority.served_tls import ServedTls
from ct_ops_server.authority.server_certificate import ServerTls, load_or_create_tls
from ct_ops_server.authority.server_leaf import LIFETIME

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("server.example",)
AHEAD = START + timedelta(days=300)
"""What a clock says that is far ahead: less than a third of the certificate's life is left then."""


@pytest.fixture
def served(data_dir: Path, secret: SealingSecret) -> ServedTls:
    """Our own certificate, just issued."""

    def load(now: datetime) -> ServerTls:
        return load_or_create_tls(data_dir, secret, names=NAMES, now=now)

    return ServedTls(load(START), load=load, ca_file=None, is_our_own=True)


def take(served: ServedTls, now: datetime) -> bool:
    """Look once, as a running server does every second; tell whether another one is served."""
    candidate = served.candidate(now)
    if candidate is not None:
        served.accept(candidate)
    return candidate is not None


def test_it_is_renewed_with_a_third_of_its_life_left_and_not_before(served: ServedTls) -> None:
    """Nothing is issued while there is no need."""
    due = served.current.not_after - LIFETIME / 3

    assert not take(served, START + timedelta(days=1))
    assert not take(served, due - timedelta(hours=1))
    assert take(served, due + timedelta(hours=1))
    assert not take(served, due + timedelta(hours=2))


def test_one_of_a_time_when_the_clock_was_ahead_is_replaced_once_the_clock_is_right(
    served: ServedTls,
) -> None:
    """Nobody would believe it for months: no agent could come back until somebody restarted the server."""
    was_renewed = take(served, AHEAD)
    right = START + timedelta(days=2)

    assert was_renewed
    assert take(served, right)
    assert served.current.not_before <= right
    assert not take(served, right + timedelta(hours=2))


def test_a_failure_while_the_clock_was_ahead_does_not_keep_from_trying(
    served: ServedTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try is an hour away by whatever the clock says, not by what it said."""

    def fail(_now: datetime) -> ServerTls:
        raise AuthorityError(Path("server-ca.crt"), "is not valid now.")

    works = served._load
    take(served, AHEAD)
    monkeypatch.setattr(served, "_load", fail)
    with pytest.raises(AuthorityError):
        take(served, AHEAD + timedelta(days=290))
    monkeypatch.setattr(served, "_load", works)

    assert take(served, START + timedelta(days=2))

"""Users: who is logged in, and which accounts people could log in with.

Accounts are counted, not named: who is allowed on a host is its directory's business, that there is one more
root than yesterday is ours. Sessions are told by user; on hosts without a session record (containers, musl)
there are none to tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ct_ops_agent.collector import (
    About,
    Collector,
    CollectorError,
    Missing,
    Reading,
    Sample,
    SampleDoc,
    Settings,
)

_FIRST_HUMAN = 1000
_NOBODY = 65534
_NO_SHELLS = ("nologin", "false", "sync", "halt", "shutdown")
_MOST_USERS = 50


@dataclass(frozen=True, slots=True)
class Account:
    """A line of ``/etc/passwd``."""

    name: str
    uid: int
    shell: str

    @property
    def can_log_in(self) -> bool:
        """Whether it has a shell to log in to."""
        return self.shell.rpartition("/")[2] not in _NO_SHELLS


def parse_passwd(text: str) -> list[Account]:
    """Return the accounts; lines of directories (``+@group``) and broken ones are left out."""
    lines = (line.split(":") for line in text.splitlines())
    return [
        Account(words[0], int(words[2]), words[6])
        for words in lines
        if len(words) == 7 and words[2].isdecimal()
    ]


def read_sessions() -> list[str]:
    """Return the user of each session, as who(1) shows them."""
    import psutil  # noqa: PLC0415  its reading of utmp is the only use here

    return [session.name for session in psutil.users()]


class Users(Collector[Settings]):
    """Collector ``users``."""

    about = About(
        name="users",
        summary="Sessions by user, and counts of local accounts.",
        reads="`/etc/passwd`, the session record (utmp)",
        cost="0.3 ms a run",
        interval=timedelta(minutes=5),
        samples=(
            SampleDoc("users.sessions", "", "sessions that are open"),
            SampleDoc("users.logged_in", "", "sessions of a user", labels=("user",)),
            SampleDoc("users.accounts", "", "local accounts of people (user ids from 1000) that can log in"),
            SampleDoc("users.root_accounts", "", "accounts with the user id 0; more than one is odd"),
        ),
    )

    def __init__(
        self,
        settings: Settings,
        passwd: Path = Path("/etc/passwd"),
        sessions: Callable[[], list[str]] = read_sessions,
    ) -> None:
        """Prepare.

        Args:
            settings: none of its own.
            passwd: the file of local accounts.
            sessions: returns the user of each session.
        """
        super().__init__(settings)
        self._passwd = passwd
        self._sessions = sessions

    def collect(self) -> Iterator[Reading]:
        """Look at sessions and accounts."""
        try:
            accounts = parse_passwd(self._passwd.read_text(errors="replace"))
        except OSError as error:
            raise CollectorError(f"{self._passwd} cannot be read: {error.strerror}") from error
        people = [one for one in accounts if _FIRST_HUMAN <= one.uid != _NOBODY and one.can_log_in]
        yield Sample("users.accounts", len(people))
        yield Sample("users.root_accounts", sum(1 for one in accounts if one.uid == 0))
        yield from self._logged_in()

    def _logged_in(self) -> Iterator[Reading]:
        try:
            sessions = Counter(self._sessions())
        except (OSError, RuntimeError) as error:
            yield Missing("sessions", f"the session record cannot be read: {error}")
            return
        yield Sample("users.sessions", sessions.total())
        for user, count in sorted(sessions.items())[:_MOST_USERS]:
            yield Sample("users.logged_in", count, "", {"user": user})

"""Users: who is logged in, and which accounts people could log in with.

Accounts are counted, not named: who is allowed on a host is its directory's business, that there is one more
root than yesterday is ours. Sessions are told by user, from the record that the host keeps: utmp, as who(1) does,
or systemd's. One without a record (containers, musl) does not know how many there are, and that is said: it is
not zero.
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
_NO_RECORD = "this host keeps no record of sessions: neither /run/utmp nor /run/systemd/sessions"


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
    lines = (line.rstrip("\r").split(":") for line in text.split("\n"))
    return [
        Account(words[0], int(words[2]), words[6])
        for words in lines
        if len(words) == 7 and words[2].isdecimal()
    ]


def parse_session(text: str) -> str | None:
    """Return whose session a file of ``/run/systemd/sessions`` is; None: nobody's who has logged in.

    Screens that wait for somebody (greeter), background jobs (cron) and systemd's own managers are none.
    """
    fields = dict(line.partition("=")[::2] for line in text.split("\n"))
    open_by_a_user = fields.get("CLASS", "").startswith("user") and fields.get("STATE") != "closing"
    return fields.get("USER") if open_by_a_user else None


def read_sessions(
    run: Path = Path("/run"), of_utmp: Callable[[], list[str]] | None = None
) -> list[str] | None:
    """Return the user of each session, None when the host keeps no record of them.

    Args:
        run: the folder of the records.
        of_utmp: returns the user of each session of utmp.
    """
    if _has_entries(run / "utmp"):
        return (of_utmp or _of_utmp)()
    folder = run / "systemd" / "sessions"
    if not folder.is_dir():
        return None
    files = sorted(file for file in folder.iterdir() if file.is_file())  # beside each stands a pipe, "1.ref"
    users = (parse_session(_text(file)) for file in files)
    return [user for user in users if user]


class Users(Collector[Settings]):
    """Collector ``users``."""

    about = About(
        name="users",
        summary="Sessions by user, and counts of local accounts.",
        reads="`/etc/passwd`; the session record: `/run/utmp`, without it `/run/systemd/sessions`",
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
        sessions: Callable[[], list[str] | None] = read_sessions,
    ) -> None:
        """Prepare.

        Args:
            settings: none of its own.
            passwd: the file of local accounts.
            sessions: returns the user of each session, None without a record of them.
        """
        super().__init__(settings)
        self._passwd = passwd
        self._sessions = sessions

    def collect(self) -> Iterator[Reading]:
        """Look at sessions and accounts."""
        try:
            accounts = parse_passwd(_text(self._passwd))
        except OSError as error:
            raise CollectorError(f"{self._passwd} cannot be read: {error.strerror}") from error
        people = [one for one in accounts if _FIRST_HUMAN <= one.uid != _NOBODY and one.can_log_in]
        yield Sample("users.accounts", len(people))
        yield Sample("users.root_accounts", sum(1 for one in accounts if one.uid == 0))
        yield from self._logged_in()

    def _logged_in(self) -> Iterator[Reading]:
        try:
            record = self._sessions()
        except (OSError, RuntimeError) as error:
            yield Missing("sessions", f"the session record cannot be read: {error}")
            return
        if record is None:
            yield Missing("sessions", _NO_RECORD)
            return
        sessions = Counter(record)
        yield Sample("users.sessions", sessions.total())
        for user, count in sorted(sessions.items())[:_MOST_USERS]:
            yield Sample("users.logged_in", count, "", {"user": user})


def _has_entries(utmp: Path) -> bool:
    # Images and musl hosts have an empty one that nobody writes; whoever writes one begins with the boot.
    try:
        return utmp.stat().st_size > 0
    except FileNotFoundError:
        return False


def _of_utmp() -> list[str]:
    import psutil  # noqa: PLC0415  its reading of utmp is the only use here

    return [session.name for session in psutil.users()]


def _text(file: Path) -> str:
    return file.read_bytes().decode(errors="replace")  # text mode would take a lone \r for a line's end

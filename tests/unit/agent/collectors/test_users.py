"""Users: accounts are counted, sessions told from the record that the host keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_ops_agent.collector import Settings
from ct_ops_agent.collector_testing import collected, missing_parts
from ct_ops_agent.collectors.users import Users, parse_passwd, parse_session, read_sessions

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
toor:x:0:0::/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash
bob:x:1001:1001::/home/bob:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/:/bin/sh
+@admins
"""


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_sessions_and_accounts_are_counted(tmp_path: Path) -> None:
    """People have user ids from 1000 and a shell; a second root is odd."""
    write(tmp_path, passwd=PASSWD)
    samples = collected(Users(Settings(), tmp_path / "passwd", sessions=lambda: ["alice", "alice", "root"]))

    assert {
        "users.accounts": 1.0,
        "users.root_accounts": 2.0,
        "users.sessions": 3.0,
        'users.logged_in{user="alice"}': 2.0,
        'users.logged_in{user="root"}': 1.0,
    } == samples
    assert 6 == len(parse_passwd(PASSWD))


def test_a_session_record_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Accounts are told."""
    write(tmp_path, passwd=PASSWD)

    def broken() -> list[str]:
        raise PermissionError(13, "Permission denied")

    assert "sessions" in missing_parts(Users(Settings(), tmp_path / "passwd", sessions=broken))


def test_without_a_record_of_sessions_that_is_said_and_not_zero(tmp_path: Path) -> None:
    """Containers and musl hosts: nobody writes down who logs in."""
    write(tmp_path, passwd=PASSWD)
    collector = Users(Settings(), tmp_path / "passwd", sessions=lambda: read_sessions(tmp_path))

    assert "no record of sessions" in missing_parts(collector)["sessions"]
    assert "users.sessions" not in collected(collector, allow_missing=True)


def test_an_empty_record_is_none(tmp_path: Path) -> None:
    """Images bring an empty utmp; a host that writes one begins with its boot."""
    write(tmp_path, utmp="")

    assert read_sessions(tmp_path) is None


def test_a_record_of_utmp_is_read_as_who_does(tmp_path: Path) -> None:
    """Nobody logged in is an answer then."""
    write(tmp_path, utmp="boot")

    assert [] == read_sessions(tmp_path, of_utmp=list)


def test_without_utmp_the_sessions_of_systemd_count(tmp_path: Path) -> None:
    """Newer systems keep no utmp; pipes that stand beside the sessions are no sessions."""
    folder = tmp_path / "systemd" / "sessions"
    write(
        folder,
        **{"1": "# private\nUSER=alice\nCLASS=user\nSTATE=active\n", "c2": "CLASS=greeter\nUSER=gdm\n"},
    )
    (folder / "1.ref").mkdir()

    assert ["alice"] == read_sessions(tmp_path)


@pytest.mark.parametrize("text", ["", "USER=a", "USER=a\nCLASS=manager", "USER=a\nCLASS=user\nSTATE=closing"])
def test_what_nobody_has_logged_in_to_is_no_session(text: str) -> None:
    """Managers, jobs, and what is about to end."""
    assert parse_session(text) is None


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_attack_a_name_with_a_mark_that_unicode_calls_a_lines_end_makes_no_account(
    mark: str, tmp_path: Path
) -> None:
    """chfn(1) lets people choose their full name: it adds no second root."""
    forged = f"alice:x:1000:1000:Alice{mark}toor:x:0:0::/root:/bin/sh:/home/alice:/bin/bash\n"
    (tmp_path / "passwd").write_bytes(("root:x:0:0:root:/root:/bin/bash\n" + forged).encode())
    collector = Users(Settings(), tmp_path / "passwd", sessions=list)

    assert 1.0 == collected(collector)["users.root_accounts"]


def test_lines_of_a_file_that_came_from_windows_are_read() -> None:
    """The shell has no carriage return."""
    assert ["/bin/sh"] == [one.shell for one in parse_passwd("a:x:0:0::/:/bin/sh\r\n")]

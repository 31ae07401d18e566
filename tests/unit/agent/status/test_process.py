"""Whether a daemon lives."""

import os
from pathlib import Path

from ct_ops_agent.identity.files import locked_directory
from ct_ops_agent.status.process import is_alive, parse_owners

LOCKS = """1: FLOCK  ADVISORY  WRITE 7446 fe:00:2278095 0 EOF
2: POSIX  ADVISORY  READ  11 fe:00:2278095 0 EOF
3: FLOCK  ADVISORY  WRITE 12 00:2a:5 0 EOF
"""


def test_owners_are_read_from_the_kernels_list() -> None:
    """Only flocks, only of this file."""
    assert ({7446}, {12}, set()) == tuple(parse_owners(LOCKS, inode) for inode in (2278095, 5, 6))


def test_who_holds_the_lock_lives(tmp_path: Path) -> None:
    """And looking does not disturb the lock."""
    assert not is_alive(os.getpid(), tmp_path)
    with locked_directory(tmp_path):
        assert is_alive(os.getpid(), tmp_path)
        assert not is_alive(1, tmp_path)
    assert not is_alive(os.getpid(), tmp_path)


def test_without_a_list_the_process_number_has_to_do(tmp_path: Path) -> None:
    """Another system, or a jail: our own number lives, one that cannot exist does not."""
    nowhere = tmp_path / "locks"

    assert is_alive(os.getpid(), tmp_path, locks=nowhere)
    assert is_alive(1, tmp_path, locks=nowhere)
    assert not is_alive(2**22 + 1, tmp_path, locks=nowhere)

"""Root leaves no file of its own in the data directory of the service's user."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ct_ops_agent.identity.files import locked_directory, write_file
from ct_ops_agent.identity.owner import acting_as_owner

_SOMEBODY = 65_534


@pytest.fixture
def service_folder() -> Iterator[Path]:
    """A folder of the service's user: somebody else's, when root runs the tests, below one that all may enter."""
    folder = Path(tempfile.mkdtemp(prefix="ct-ops-owner-"))
    if os.geteuid() == 0:
        os.chown(folder, _SOMEBODY, _SOMEBODY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def test_what_is_written_belongs_to_the_owner_of_the_folder(service_folder: Path) -> None:
    """And the command is who it was before, afterwards."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    with acting_as_owner(service_folder), locked_directory(service_folder):
        write_file(service_folder / "agent_state.json", "{}")
    owner, written = service_folder.stat(), (service_folder / "agent_state.json").stat()

    assert (owner.st_uid, owner.st_gid) == (written.st_uid, written.st_gid)
    assert before == (os.geteuid(), os.getegid(), os.getgroups())


def test_who_it_was_is_restored_after_a_failure(service_folder: Path) -> None:
    """An error inside leaves no process half somebody else."""
    before = os.geteuid()
    with pytest.raises(ValueError, match="inside"), acting_as_owner(service_folder):
        raise ValueError("inside")

    assert before == os.geteuid()


def test_a_folder_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    """Whoever makes it owns it."""
    with acting_as_owner(tmp_path / "none"):
        assert os.geteuid() == tmp_path.stat().st_uid

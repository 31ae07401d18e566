"""A key that follows another: whatever step a crash hits, one whole key pair is there afterwards."""

from pathlib import Path

import pytest

from ct_ops_agent.errors import DataDirectoryError
from ct_ops_agent.identity import rotation as rotation_module
from ct_ops_agent.identity.certificates import make_key_pair
from ct_ops_agent.identity.keystore import KeyPair, keep_key_pair, load_key_pair
from ct_ops_agent.identity.rotation import NEXT_KEY_NAME, KeyRotation

OLD, NEW = make_key_pair(), make_key_pair()


class CrashError(Exception):
    """The power goes."""


@pytest.fixture
def rotation(tmp_path: Path) -> KeyRotation:
    keep_key_pair(tmp_path, OLD)
    return KeyRotation(tmp_path)


def test_a_request_is_a_file_that_the_next_promotion_removes(rotation: KeyRotation) -> None:
    """It survives restarts of the agent."""
    before = rotation.is_requested
    rotation.request()
    rotation.keep_next(NEW)
    during = rotation.is_requested, rotation.is_under_way
    rotation.promote(NEW)

    assert (False, (True, True)) == (before, during)
    assert (False, False) == (rotation.is_requested, rotation.is_under_way)


def test_the_next_key_is_born_private_and_never_overwritten(rotation: KeyRotation, tmp_path: Path) -> None:
    """The server may hold it already."""
    rotation.keep_next(NEW)

    assert 0o600 == (tmp_path / NEXT_KEY_NAME).stat().st_mode & 0o777
    assert NEW == rotation.next_key()
    with pytest.raises(DataDirectoryError):
        rotation.keep_next(OLD)


def test_a_dropped_key_leaves_the_old_one_as_it_was(rotation: KeyRotation, tmp_path: Path) -> None:
    """And the request with it: it was tried."""
    rotation.request()
    rotation.keep_next(NEW)
    rotation.drop()

    assert OLD == load_key_pair(tmp_path)
    assert (False, False, None) == (rotation.is_requested, rotation.is_under_way, rotation.next_key())


@pytest.mark.parametrize(
    ("crash_at", "survivor"),
    [("unlink", OLD), ("replace", OLD), ("sync_directory", NEW), ("write_file", NEW)],
)
def test_a_crash_at_any_step_of_a_promotion_leaves_one_whole_key_pair(
    rotation: KeyRotation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: str, survivor: KeyPair
) -> None:
    """Private and public half always belong together."""

    def crash(*_arguments: object, **_options: object) -> None:
        raise CrashError

    rotation.keep_next(NEW)
    with monkeypatch.context() as patched:
        if crash_at in {"unlink", "replace"}:
            patched.setattr(Path, crash_at, crash)
        else:
            patched.setattr(rotation_module, crash_at, crash)
        with pytest.raises(CrashError):
            rotation.promote(NEW)

    assert survivor == load_key_pair(tmp_path)


def test_something_else_in_the_place_of_the_next_key_is_an_error_that_names_it(
    rotation: KeyRotation, tmp_path: Path
) -> None:
    """It is not silently thrown away."""
    (tmp_path / NEXT_KEY_NAME).write_text("no key")

    with pytest.raises(DataDirectoryError, match=NEXT_KEY_NAME):
        rotation.next_key()

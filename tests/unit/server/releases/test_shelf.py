"""The shelf: whole files only, what was added only, programs only where a program is asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ct_ops_server.authority.errors import AuthorityError
from ct_ops_server.releases.artefact import Form
from ct_ops_server.releases.manifest import ManifestError, from_bytes, sign, to_bytes, verify
from ct_ops_server.releases.release_key import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    load_public_key,
    load_signing_key,
    make_release_key,
)
from ct_ops_server.releases.shelf import MANIFEST_ENDING, SIGNATURE_ENDING, Shelf, ShelfError
from unit.server.releases.programs import elf, macho

ARCHIVE = "ct-ops-agent-linux-amd64-v0.1.0.tar.gz"
PROGRAM = "ct-ops-agent-linux-amd64-v0.30.2"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def made(tmp_path: Path, name: str, content: bytes) -> Path:
    file = tmp_path / "made" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return file


def archive(tmp_path: Path, content: bytes = b"one") -> Path:
    return made(tmp_path, ARCHIVE, b"\x1f\x8b\x08" + content)


def put(shelf: Shelf, file: Path) -> None:
    shelf.add(file, shelf.describe(file), None)


def names(shelf: Shelf) -> list[str]:
    return [found.artefact.file_name for found in shelf.everything()]


def test_what_was_added_is_found_with_its_hash(shelf: Shelf, tmp_path: Path) -> None:
    """And readable for whoever serves it."""
    file = archive(tmp_path)
    put(shelf, file)
    found = shelf.find(system="linux", architecture="amd64", form=Form.TAR_GZ)

    assert found is not None
    assert (file.read_bytes(), 0o644) == (found.path.read_bytes(), found.path.stat().st_mode & 0o777)
    assert shelf.describe(file).sha256 == found.sha256


def test_an_empty_or_missing_shelf_has_nothing(shelf: Shelf) -> None:
    """Not an error: nobody has added anything yet."""
    assert [] == shelf.everything()


def test_a_file_that_was_changed_is_not_handed_out_any_more(shelf: Shelf, tmp_path: Path) -> None:
    """Truncated by a full disk, or replaced by somebody."""
    put(shelf, archive(tmp_path))
    (shelf.folder / ARCHIVE).write_bytes(b"\x1f\x8b\x08other")

    assert [] == names(shelf)


def test_adding_again_replaces(shelf: Shelf, tmp_path: Path) -> None:
    """The new hash with the new content."""
    put(shelf, archive(tmp_path))
    put(shelf, archive(tmp_path, b"two"))
    (found,) = shelf.everything()

    assert b"\x1f\x8b\x08two" == found.path.read_bytes()


def test_a_disk_that_fills_up_leaves_nothing_half_made(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An existing server leaves a truncated program, and hands it out for ever."""
    file = made(tmp_path, PROGRAM, elf(text=b"0.30.2"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)

    with pytest.raises(ShelfError, match="No space left"):
        put(shelf, file)
    assert [PROGRAM + MANIFEST_ENDING] == [entry.name for entry in shelf.folder.iterdir()]
    assert [] == names(shelf)


def test_removing_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    """The manifest and the signature go too."""
    put(shelf, archive(tmp_path))
    shelf.remove(ARCHIVE)

    assert [] == list(shelf.folder.iterdir())


@pytest.mark.parametrize("name", ["nothing", "../made/x", "", "."])
def test_only_what_is_on_the_shelf_can_be_removed(shelf: Shelf, tmp_path: Path, name: str) -> None:
    """No path leads elsewhere."""
    made(tmp_path, "x", b"")
    put(shelf, archive(tmp_path))
    with pytest.raises(ShelfError, match="release list"):
        shelf.remove(name)
    assert (tmp_path / "made" / "x").exists()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("notes.txt", b"", "no name of an artefact"),
        ("ct-ops-agent-linux-amd64", elf(), "say the version"),
        (ARCHIVE, b"<html>", "no gzip archive"),
        ("ct-ops-agent-linux-amd64-v1.0.tar.xz", b"\x1f\x8b", "no xz archive"),
        (PROGRAM, b"<html>", "never start again"),
        (PROGRAM, macho(), "a program for darwin/arm64"),
        (PROGRAM, elf(text=b"0.30.1"), "another version"),
    ],
)
def test_what_may_not_be_handed_out_is_not_taken(
    shelf: Shelf, tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    """The operator is told why."""
    with pytest.raises(ShelfError, match=why):
        put(shelf, made(tmp_path, name, content))
    assert [] == names(shelf)


def test_a_version_is_found_where_two_chunks_meet(shelf: Shelf, tmp_path: Path) -> None:
    """A program is read in pieces."""
    content = elf() + bytes(1024 * 1024 - len(elf()) - 3) + b"0.30.2"
    put(shelf, made(tmp_path, PROGRAM, content))

    assert [PROGRAM] == names(shelf)


def test_programs_that_were_copied_in_by_hand_are_looked_at(shelf: Shelf) -> None:
    """As existing installations do it; a page of an error is not handed out, nor an unknown archive."""
    shelf.folder.mkdir()
    (shelf.folder / "ct-ops-agent-linux-amd64").write_bytes(elf())
    (shelf.folder / "ct-ops-agent-linux-arm64").write_bytes(b"<html>")
    (shelf.folder / ARCHIVE).write_bytes(b"\x1f\x8b\x08")

    assert ["ct-ops-agent-linux-amd64"] == names(shelf)


def test_a_signature_is_verified_by_plain_openssl(shelf: Shelf, tmp_path: Path) -> None:
    """By whoever does not believe us."""
    make_release_key(tmp_path, tmp_path / "key.pem")
    key = load_signing_key(tmp_path, tmp_path / "key.pem")
    assert key is not None
    file = archive(tmp_path)
    manifest = shelf.describe(file)
    shelf.add(file, manifest, sign(manifest, key))
    verdict = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", str(tmp_path / PUBLIC_FILE), "-signature"]
        + [str(shelf.folder / (ARCHIVE + ending)) for ending in (SIGNATURE_ENDING, MANIFEST_ENDING)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "Verified OK" == verdict.stdout.strip()


def test_the_same_file_has_the_same_signature(shelf: Shelf, tmp_path: Path) -> None:
    """RFC 6979: so that a build can be repeated and compared."""
    key = ec.generate_private_key(ec.SECP256R1())
    manifest = shelf.describe(archive(tmp_path))

    assert sign(manifest, key) == sign(manifest, key)


def test_a_manifest_of_somebody_else_is_not_believed(shelf: Shelf, tmp_path: Path) -> None:
    """Another key, a changed fact, another spelling of the same facts."""
    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    manifest = shelf.describe(archive(tmp_path))
    data = to_bytes(manifest)

    assert manifest == verify(data, sign(manifest, ours), ours.public_key())
    with pytest.raises(ManifestError, match="not by this server's"):
        verify(data, sign(manifest, theirs), ours.public_key())
    with pytest.raises(ManifestError, match="not by this server's"):
        verify(data.replace(b"0.1.0", b"0.1.1"), sign(manifest, ours), ours.public_key())
    with pytest.raises(ManifestError, match="canonical"):
        from_bytes(data.replace(b",", b", "))


def test_a_release_key_is_made_once_and_its_private_half_is_private(tmp_path: Path) -> None:
    """Agents believe that key: another one would lock them out of updates."""
    make_release_key(tmp_path, tmp_path / PRIVATE_FILE)

    assert 0o600 == (tmp_path / PRIVATE_FILE).stat().st_mode & 0o777
    with pytest.raises(AuthorityError, match="believe that key"):
        make_release_key(tmp_path, tmp_path / "other.pem")


def test_a_key_that_is_kept_elsewhere_leaves_only_its_public_half(tmp_path: Path) -> None:
    """The operator's stick has the other."""
    data, stick = tmp_path / "data", tmp_path / "stick"
    data.mkdir()
    stick.mkdir()
    make_release_key(data, stick / "key.pem")

    assert load_signing_key(data, None) is None
    assert load_signing_key(data, stick / "key.pem") is not None
    assert load_public_key(data) is not None


def test_another_installations_key_signs_nothing_here(tmp_path: Path) -> None:
    """Found before anything is signed that no agent would believe."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        make_release_key(folder, folder / PRIVATE_FILE)

    with pytest.raises(AuthorityError, match="public half"):
        load_signing_key(ours, theirs / PRIVATE_FILE)


def test_a_release_key_can_be_the_first_thing_that_is_made(tmp_path: Path) -> None:
    """Before the server has ever run: the data directory is made as the server would make it."""
    data_dir = tmp_path / "server"
    make_release_key(data_dir, data_dir / PRIVATE_FILE)

    assert 0o700 == data_dir.stat().st_mode & 0o777
    assert load_signing_key(data_dir, None) is not None

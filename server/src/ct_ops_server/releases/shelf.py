"""The shelf: the folder of artefacts (``AGENT_DIST_DIR``), each with its manifest beside it.

::

    ct-ops-agent-linux-amd64-v0.1.0.tar.xz
    ct-ops-agent-linux-amd64-v0.1.0.tar.xz.manifest        what it is: length, SHA-256
    ct-ops-agent-linux-amd64-v0.1.0.tar.xz.manifest.sig    by the release key, where there is one

Rules kept here:

* A file gets its name only when it is whole: copied beside it, synced, renamed (a crash of an existing
  server leaves a truncated program that is handed out for ever).
* What is handed out is what was added: a file that differs from its manifest is not on the shelf.
* Programs that somebody copied in by hand, as existing installations do, are handed out too, after a look
  at what they are; archives are not, for nobody vouches for them.

Blocking: callers on an event loop use a thread.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ct_ops_server.releases.artefact import Artefact, ArtefactNameError, Form, newest, parse_file_name
from ct_ops_server.releases.executable import HEAD_BYTES, Platform, platform_of
from ct_ops_server.releases.manifest import Manifest, ManifestError, from_bytes, to_bytes

_log = logging.getLogger(__name__)

MANIFEST_ENDING = ".manifest"
SIGNATURE_ENDING = ".manifest.sig"
_CHUNK_BYTES = 1024 * 1024


class ShelfError(Exception):
    """The shelf cannot do that; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """An artefact that may be handed out."""

    path: Path
    artefact: Artefact
    length: int
    sha256: str
    manifest: Manifest | None
    signature: bytes | None
    modified_ns: int


class Shelf:
    """The artefacts in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[tuple[Path, int, int], str] = {}
        """By path, length and time of change: a file is read once."""

    @property
    def folder(self) -> Path:
        """Return where the artefacts are."""
        return self._folder

    def everything(self) -> list[Found]:
        """Return everything that may be handed out, by name."""
        names = sorted(entry.name for entry in self._entries())
        return [found for name in names if (found := self._look(name)) is not None]

    def find(self, *, system: str, architecture: str, form: Form) -> Found | None:
        """Return the newest artefact that fits, None when there is none."""
        candidates = {found.artefact.file_name: found for found in self.everything()}
        best = newest(
            (found.artefact for found in candidates.values()),
            system=system,
            architecture=architecture,
            form=form,
        )
        return candidates[best.file_name] if best else None

    def describe(self, source: Path, *, glibc_floor: str = "") -> Manifest:
        """Return the manifest of a file that is not on the shelf yet.

        Raises:
            ShelfError: it is nothing that may be handed out.
        """
        try:
            artefact = parse_file_name(source.name)
        except ArtefactNameError as error:
            raise ShelfError(str(error)) from error
        if artefact.version is None:
            raise ShelfError(f"{source.name}: say the version in the name, as ct-ops-agent-OS-ARCH-vVERSION")
        if fault := fault_of(source, artefact):
            raise ShelfError(fault)
        return Manifest(
            file_name=source.name,
            system=artefact.system,
            architecture=artefact.architecture,
            form=artefact.form,
            version=artefact.version,
            length=source.stat().st_size,
            sha256=sha256_of(source),
            glibc_floor=glibc_floor,
        )

    def add(self, source: Path, manifest: Manifest, signature: bytes | None) -> Found:
        """Put a file on the shelf, replacing one of the same name.

        Raises:
            ShelfError: it cannot be written, or is not what the manifest says.
        """
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._place(manifest.file_name + MANIFEST_ENDING, to_bytes(manifest))
            if signature is not None:
                self._place(manifest.file_name + SIGNATURE_ENDING, signature)
            else:
                (self._folder / (manifest.file_name + SIGNATURE_ENDING)).unlink(missing_ok=True)
            self._copy(source, manifest)
        except OSError as error:
            raise ShelfError(f"{self._folder} cannot be written: {error.strerror}") from error
        found = self._look(manifest.file_name)
        if found is None:
            raise ShelfError(f"{manifest.file_name} is not what its manifest says; add it again")
        return found

    def remove(self, file_name: str) -> None:
        """Take an artefact off the shelf, with its manifest.

        Raises:
            ShelfError: there is none of that name.
        """
        path = self._folder / Path(file_name).name
        if path.name != file_name or not path.is_file():
            raise ShelfError(f"there is no {file_name} on the shelf; `release list` shows what there is")
        path.unlink()
        for ending in (MANIFEST_ENDING, SIGNATURE_ENDING):
            path.with_name(file_name + ending).unlink(missing_ok=True)

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._folder) as entries:
                return [entry for entry in entries if entry.is_file()]
        except FileNotFoundError:
            return []
        except OSError as error:
            _log.warning("the shelf %s cannot be read: %s", self._folder, error.strerror)
            return []

    def _look(self, name: str) -> Found | None:
        try:
            artefact = parse_file_name(name)
        except ArtefactNameError:
            return None
        path = self._folder / name
        try:
            manifest, signature = self._manifest_of(path)
            status = path.stat()
            digest = self._digest_of(path, status)
        except (OSError, ManifestError) as error:
            _log.warning("%s is not handed out: %s", path, error)
            return None
        if fault := _why_not(path, artefact, manifest, length=status.st_size, sha256=digest):
            _log.warning("%s is not handed out: %s", path, fault)
            return None
        return Found(path, artefact, status.st_size, digest, manifest, signature, status.st_mtime_ns)

    def _manifest_of(self, path: Path) -> tuple[Manifest | None, bytes | None]:
        manifest = path.with_name(path.name + MANIFEST_ENDING)
        if not manifest.exists():
            return None, None
        signature = path.with_name(path.name + SIGNATURE_ENDING)
        return from_bytes(manifest.read_bytes()), signature.read_bytes() if signature.exists() else None

    def _digest_of(self, path: Path, status: os.stat_result) -> str:
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._digests:
            self._digests = {kept: digest for kept, digest in self._digests.items() if kept[0] != path}
            self._digests[key] = sha256_of(path)
        return self._digests[key]

    def _place(self, name: str, content: bytes) -> None:
        with self._becoming(name) as file:
            file.write(content)

    def _copy(self, source: Path, manifest: Manifest) -> None:
        with source.open("rb") as opened, self._becoming(manifest.file_name) as file:
            shutil.copyfileobj(opened, file, _CHUNK_BYTES)

    @contextmanager
    def _becoming(self, name: str) -> Iterator[IO[bytes]]:
        """A file that gets its name when it is whole and durable, and is gone when it never was."""
        descriptor, path = tempfile.mkstemp(dir=self._folder, prefix=".new-")
        temporary = Path(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            temporary.replace(self._folder / name)
        finally:
            temporary.unlink(missing_ok=True)


def _why_not(
    path: Path, artefact: Artefact, manifest: Manifest | None, *, length: int, sha256: str
) -> str | None:
    if manifest is None:
        if artefact.form is not Form.PROGRAM:
            return "it has no manifest; add it with `ct-ops-server release add`"
        return fault_of(path, artefact)
    said = (manifest.file_name, manifest.length, manifest.sha256)
    return None if said == (artefact.file_name, length, sha256) else "it is not what its manifest says"


def fault_of(path: Path, artefact: Artefact) -> str | None:
    """Return why the content of a file is not what its name says, None when it is."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    match artefact.form:
        case Form.TAR_GZ:
            return None if head[:2] == b"\x1f\x8b" else f"{path.name} is no gzip archive"
        case Form.TAR_XZ:
            return None if head[:6] == b"\xfd7zXZ\0" else f"{path.name} is no xz archive"
        case Form.PROGRAM:
            return _fault_of_program(path, artefact, head)


def _fault_of_program(path: Path, artefact: Artefact, head: bytes) -> str | None:
    wanted = Platform(artefact.system, artefact.architecture)
    found = platform_of(head)
    if found is None:
        return f"{path.name} is no program for {wanted.system}: an agent would put it in its own place and never start again"
    if found != wanted:
        return f"{path.name} is a program for {found.system}/{found.architecture}"
    if artefact.version is not None and not _names(path, artefact.version.encode()):
        return f"{path.name} does not hold the text {artefact.version}: is it of another version?"
    return None


def _names(path: Path, text: bytes) -> bool:
    """Whether the text is somewhere in the file, also where two chunks meet."""
    tail = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if text in tail + chunk:
                return True
            tail = chunk[-len(text) :]
    return False


def sha256_of(path: Path) -> str:
    """Return the digest of a file in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

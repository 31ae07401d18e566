"""The host as the steps change it: files in place of files, owners, and programs that are run.

* A file is written beside its place, synced and renamed over it: at every moment there is the old one or
  the new one. A folder is copied beside its place and renamed.
* Nothing is written through a symbolic link in the last place, except where an operator linked the
  configuration elsewhere.
* Programs get their words as a list and no secret, and the installation's environment without the token.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ct_ops_agent.errors import InstallationError
from ct_ops_agent.identity.files import sync_directory
from ct_ops_agent.service.belongings import belongs_to_agent
from ct_ops_agent.service.layout import inside

_PATIENCE_S = 90.0
_MOST_LINKS = 8
_FOLDER, _PROGRAM, _FILE = 0o755, 0o755, 0o644


@dataclass(frozen=True)
class Ids:
    """A user and a group, as numbers."""

    user: int = 0
    group: int = 0


ROOT = Ids()


class Machine:
    """A host, or the root of an image of one."""

    def __init__(self, root: Path = Path("/"), *, owns: bool | None = None) -> None:
        """Prepare.

        Args:
            root: of the host that is changed.
            owns: whether files can be given to other users; by default whoever is root can.
        """
        self.root = root
        self._owns = os.geteuid() == 0 if owns is None else owns

    @property
    def is_image(self) -> bool:
        """Whether this is not the host that runs."""
        return self.root != Path("/")

    @property
    def may_be_changed(self) -> bool:
        """Whether this process may do it: an image is whoever's who can write there."""
        return self.is_image or os.geteuid() == 0

    def at(self, path: Path) -> Path:
        """Return where a path of the installed host really is."""
        return inside(self.root, path)

    def follow(self, path: Path) -> Path:
        """Return where the links in the last place of a path end, still as the installed host sees it."""
        for _ in range(_MOST_LINKS):
            if not self.at(path).is_symlink():
                return path
            path = Path(os.path.normpath(path.parent / self.at(path).readlink()))
        raise InstallationError(f"{path} is a symbolic link without an end; remove it")

    def write(self, path: Path, text: str, mode: int, owner: Ids = ROOT) -> None:
        """Replace a file whole; its folders are made."""
        path = self.follow(path)
        target = self.at(path)
        self.make_folder(path.parent)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
        with suppress(FileNotFoundError):
            temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8", newline="") as file:
                self._give_file(file.fileno(), owner)
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        sync_directory(target.parent)

    def make_folder(self, path: Path, mode: int = _FOLDER, owner: Ids | None = None) -> None:
        """Make a folder and those above it; one that is there stays, with the owner it has unless told."""
        path = self.follow(path)
        target = self.at(path)
        if not target.is_dir():
            if path.parent != path:
                self.make_folder(path.parent)
            target.mkdir(mode=mode)
            target.chmod(mode)  # whatever the umask says
            owner = owner or ROOT
        if owner is not None and self._owns:
            os.chown(target, owner.user, owner.group)

    def link(self, path: Path, to: Path) -> None:
        """Replace what is at `path`, also a program that runs, by a symbolic link."""
        self.make_folder(path.parent)
        target = self.at(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
        with suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to(to)
        temporary.replace(target)
        sync_directory(target.parent)

    def copy_folder(self, source: Path, path: Path) -> None:
        """Copy a folder whole, root's and readable by everybody; a copy that was cut short is begun anew."""
        self.make_folder(path.parent)
        target = self.at(path)
        temporary = target.with_name(f".{target.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary, symlinks=True, copy_function=self._copy_file)
        for folder in (
            temporary,
            *(each for each in temporary.rglob("*") if each.is_dir() and not each.is_symlink()),
        ):
            folder.chmod(_FOLDER)
            sync_directory(folder)
        temporary.rename(target)
        sync_directory(target.parent)

    def give(self, path: Path, owner: Ids) -> None:
        """Give a data directory to a user: the agent's files in it, and then itself. Links are not followed."""
        target = self.at(path)
        if not self._owns or not target.is_dir():
            return
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name in filter(belongs_to_agent, os.listdir(descriptor)):  # noqa: PTH208 - of a descriptor, which nobody can swap
                os.chown(name, owner.user, owner.group, dir_fd=descriptor, follow_symlinks=False)
            os.fchown(descriptor, owner.user, owner.group)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file, a link, or a folder with all that is in it; what is gone is fine."""
        target = self.at(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def remove_if_empty(self, path: Path) -> None:
        """Remove a folder that holds nothing."""
        with suppress(OSError):
            self.at(path).rmdir()

    def run(self, words: Sequence[str]) -> str:
        """Run a program; return what it printed.

        Raises:
            InstallationError: it failed, with its last line.
        """
        try:
            done = subprocess.run(  # noqa: S603 - a list of words of ours, no shell
                list(words), capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S,
                check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InstallationError(f"{' '.join(words)}: {error}") from error
        if done.returncode:
            raise InstallationError(f"{' '.join(words)}: {last_line(done.stderr, done.stdout)}")
        return done.stdout

    def find_ids(self, name: str) -> Ids:
        """Return a user's number and that of the group of the same name.

        Raises:
            InstallationError: there is none.
        """
        if self.is_image:
            return Ids(self._id_in("passwd", name), self._id_in("group", name))
        try:
            return Ids(pwd.getpwnam(name).pw_uid, grp.getgrnam(name).gr_gid)
        except KeyError as error:
            raise InstallationError(
                f"there is no user and group {name}; make it, then install again"
            ) from error

    def find_group(self, name: str) -> Ids:
        """Return root and the group of a name, for files that are root's and a group may read."""
        return Ids(0, self.find_ids(name).group)

    def _id_in(self, file: str, name: str) -> int:
        with suppress(OSError):
            for line in (
                self.at(Path("/etc") / file).read_text(encoding="utf-8", errors="replace").splitlines()
            ):
                fields = line.split(":")
                if fields[0] == name:
                    return int(fields[2])
        raise InstallationError(f"there is no {name} in /etc/{file}; make it, then install again")

    def _copy_file(self, source: str, target: str) -> None:
        may_run = Path(source).stat().st_mode & stat.S_IXUSR
        shutil.copyfile(source, target)
        with Path(target).open("rb+") as file:
            self._give_file(file.fileno(), ROOT)
            os.fchmod(file.fileno(), _PROGRAM if may_run else _FILE)
            os.fsync(file.fileno())

    def _give_file(self, descriptor: int, owner: Ids) -> None:
        if self._owns:
            os.fchown(descriptor, owner.user, owner.group)


def last_line(*texts: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it failed without a word"

"""What can be wrong with a backup, or with the place it is restored to. ``str()`` says what to do.

BackupError (of ``store.errors``)
├── WrongPassphraseError   it was made with another passphrase
├── DamagedError           it was changed, cut off, or is no backup
├── NewerBackupError       a newer version of CT-Ops made it
└── OccupiedError          something is there already
"""

from __future__ import annotations

from ct_ops_server.store.errors import BackupError

__all__ = ["BackupError", "DamagedError", "NewerBackupError", "OccupiedError", "WrongPassphraseError"]


class WrongPassphraseError(BackupError):
    """The passphrase is not the one that the backup was made with."""

    def __init__(self) -> None:
        super().__init__("this is not the passphrase that the backup was made with: nothing was changed")


class DamagedError(BackupError):
    """The file is not what was written; ``what`` says what was found."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: use another copy of this backup, or an older one; nothing was changed")


class NewerBackupError(BackupError):
    """This version does not know the form or the schema of the backup."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}, which a newer version of CT-Ops made: restore with that version or a newer one"
        )


class OccupiedError(BackupError):
    """Where the backup is to go, there is an installation already, or one that runs."""

"""What keeps a store from being opened until somebody puts it right. Free of SQL, so that commands load it quickly.

Failures of an open store are ``fleet.ports.StoreError``.
"""

from __future__ import annotations


class DatabaseUrlError(ValueError):
    """The database address cannot be used. The text says which part and what to write instead."""


class SchemaNewerError(Exception):
    """The database was changed by a newer version of CT-Ops than this one."""

    def __init__(self, revision: str, known: str) -> None:
        super().__init__(
            f"the database has schema {revision}, which a newer version of CT-Ops made "
            f"(this one knows {known}): run that version again, or restore a backup from before the upgrade"
        )
        self.revision = revision


class RestoreUnfinishedError(SchemaNewerError):
    """A restore put the tables here and was interrupted before they could be used."""

    def __init__(self) -> None:
        Exception.__init__(
            self,
            "a restore of this database did not finish: run it again (`ct-ops-server db restore FILE --replace`, or "
            "`ct-ops-server database restore FILE` to take an upgrade back)",
        )


class BackupError(Exception):
    """There is no copy, or no way back to it. ``str()`` says what to do."""

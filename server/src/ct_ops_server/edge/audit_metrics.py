"""What is shown of the audit log: whether its files keep up, and when it was last signed."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from ct_ops_server.edge.scraping import LARGEST


class AuditMetrics:
    """Figures of the files (``store.audit_following.Watcher``). Only the worker that writes them has any."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.entries = Counter(
            "ct_ops_audit_entries",
            "Entries of the audit log that were written to its files",
            registry=registry,
        )
        self.file_lag = Gauge(
            "ct_ops_audit_file_lag_entries",
            "Entries that are in the database and not in the files yet",
            registry=registry,
            multiprocess_mode=LARGEST,
        )
        self.files_failing = Gauge(
            "ct_ops_audit_files_failing",
            "1 while the audit log's files cannot be written: a full disk, or permissions",
            registry=registry,
            multiprocess_mode=LARGEST,
        )
        self.waiting_for_database = Gauge(
            "ct_ops_audit_files_waiting",
            "1 while the audit log's files wait for a database that does not answer",
            registry=registry,
            multiprocess_mode=LARGEST,
        )
        self.signed_at = Gauge(
            "ct_ops_audit_signed_timestamp_seconds",
            "When it was last signed how far the audit log reaches",
            registry=registry,
            multiprocess_mode=LARGEST,
        )
        self.branches = Counter(
            "ct_ops_audit_branches",
            "Times that the database was found to have another history than the files: rolled back, or changed",
            registry=registry,
        )
        self.changes_by_others = Counter(
            "ct_ops_audit_file_changes_by_others",
            "Times that somebody else removed, cut or wrote to the audit file that the server was writing",
            registry=registry,
        )

    def written(self, entries: int) -> None:
        """So many entries are in the files now."""
        self.entries.inc(entries)

    def lag(self, entries: int) -> None:
        """So many entries are in the database and not in the files."""
        self.file_lag.set(entries)

    def signed(self, at_ms: int) -> None:
        """How far the chain reaches was signed."""
        self.signed_at.set(at_ms / 1000)

    def failing(self, *, is_failing: bool) -> None:
        """Whether the files can be written."""
        self.files_failing.set(is_failing)

    def waiting(self, *, is_waiting: bool) -> None:
        """Whether the files wait for the database."""
        self.waiting_for_database.set(is_waiting)

    def branched(self) -> None:
        """The database was found rolled back."""
        self.branches.inc()

    def touched(self) -> None:
        """Somebody else changed the file that is written."""
        self.changes_by_others.inc()

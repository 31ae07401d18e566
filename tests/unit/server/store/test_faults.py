"""What the drivers' errors mean. Errors that only a real database raises are in ``test_outage``."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ct_ops_server.fleet.ports import StoreUnavailableError, WriteRefusedError
from ct_ops_server.store.faults import Fault, describe, fault_of, is_from_driver, store_error


class PostgresLikeError(Exception):
    """An error as the dialect of asyncpg raises it."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("invalid input: 'what an agent sent'")
        self.sqlstate = sqlstate


def postgres_error(sqlstate: str) -> DBAPIError:
    return DBAPIError("UPDATE …", {}, PostgresLikeError(sqlstate))


def sqlite_error(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> DBAPIError:
    cause = kind("what an agent sent")
    cause.sqlite_errorcode = code
    cause.sqlite_errorname = "SQLITE_SOMETHING"
    return DBAPIError("UPDATE …", {}, cause)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (postgres_error("22P05"), Fault.REFUSED),  # NUL in a string
        (postgres_error("22003"), Fault.REFUSED),  # number out of range
        (postgres_error("23505"), Fault.REFUSED),  # unique
        (postgres_error("42P01"), Fault.REFUSED),  # no such table
        (postgres_error("40001"), Fault.CONFLICT),
        (postgres_error("40P01"), Fault.CONFLICT),
        (postgres_error("08006"), Fault.UNAVAILABLE),
        (postgres_error("25006"), Fault.UNAVAILABLE),  # a standby
        (postgres_error("28P01"), Fault.UNAVAILABLE),  # wrong password
        (postgres_error("3D000"), Fault.UNAVAILABLE),
        (postgres_error("53100"), Fault.UNAVAILABLE),  # disk full
        (postgres_error("57P01"), Fault.UNAVAILABLE),
        (sqlite_error(sqlite3.SQLITE_BUSY), Fault.CONFLICT),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), Fault.CONFLICT),
        (sqlite_error(sqlite3.SQLITE_FULL), Fault.UNAVAILABLE),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), Fault.UNAVAILABLE),
        (sqlite_error(sqlite3.SQLITE_READONLY), Fault.UNAVAILABLE),
        (sqlite_error(sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.IntegrityError), Fault.REFUSED),
        (sqlite_error(sqlite3.SQLITE_ERROR), Fault.REFUSED),
        (DBAPIError("", {}, sqlite3.OperationalError("no active connection")), Fault.UNAVAILABLE),
        (DBAPIError("", {}, sqlite3.ProgrammingError("wrong binding")), Fault.REFUSED),
        (DBAPIError("", {}, Exception(), connection_invalidated=True), Fault.UNAVAILABLE),
        (ConnectionRefusedError(), Fault.UNAVAILABLE),
        (TimeoutError(), Fault.UNAVAILABLE),
        (PoolTimeoutError(), Fault.UNAVAILABLE),
        (OverflowError("int too large"), Fault.REFUSED),
        (ValueError("anything unknown"), Fault.REFUSED),
    ],
    ids=lambda value: describe(value) if isinstance(value, Exception) else value.name,
)
def test_an_error_means_what_follows_from_it(error: Exception, fault: Fault) -> None:
    """Outages, conflicts and refusals are told apart by code; the unknown is a refusal."""
    assert fault == fault_of(error)


def test_errors_of_the_store_stay_what_they_are() -> None:
    """Translating twice changes nothing."""
    error = StoreUnavailableError("the queue is full")

    assert error is store_error(error)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (postgres_error("22P05"), "PostgresLikeError 22P05"),
        (sqlite_error(sqlite3.SQLITE_TOOBIG, sqlite3.DataError), "DataError SQLITE_SOMETHING"),
    ],
)
def test_a_refusal_names_the_code_and_no_values(error: Exception, says: str) -> None:
    """What a driver says about a value holds what an agent sent: that stays out of errors and logs."""
    refused = store_error(error)

    assert isinstance(refused, WriteRefusedError)
    assert says in str(refused)
    assert "what an agent sent" not in str(refused)


def test_an_outage_says_what_is_to_be_mended() -> None:
    """What the system says about itself helps whoever has to bring the database back."""
    outage = store_error(DBAPIError("", {}, ConnectionRefusedError(111, "Connection refused\n")))

    assert isinstance(outage, StoreUnavailableError)
    assert str(outage).endswith("(ConnectionRefusedError): [Errno 111] Connection refused")


def test_a_commands_own_error_is_not_the_databases() -> None:
    """Domain errors reach their caller untouched."""
    assert not is_from_driver(KeyError("a"))
    assert is_from_driver(postgres_error("23505"))
    assert is_from_driver(OverflowError())
